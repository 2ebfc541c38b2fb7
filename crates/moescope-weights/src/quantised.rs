//! Tensors whose numbers and scales are stored apart, put together.

use crate::stored::{Place, Scales, Stored};
use crate::{NumberFormat, Weights, WeightsError};

/// Rows and columns that share a scale in FP8 checkpoints that do not say otherwise.
const BLOCK: [usize; 2] = [128, 128];

/// Replaces `X_blocks` and `X_scales` (MXFP4), and `X` and `X_scale_inv` (FP8), by one tensor `X` each.
///
/// # Errors
/// [`WeightsError::Scales`] where the two do not fit each other.
pub(crate) fn combine(weights: &mut Weights) -> Result<(), WeightsError> {
    let names: Vec<String> = weights.tensors.keys().cloned().collect();
    let mut block = None;
    for name in names {
        if let Some(base) = name.strip_suffix("_blocks") {
            combine_groups(weights, base)?;
        } else if let Some(base) = name.strip_suffix("_scale_inv") {
            let block = match block {
                Some(block) => block,
                None => *block.insert(stated_block(weights)?.unwrap_or(BLOCK)),
            };
            combine_blocks(weights, base, block)?;
        }
    }
    Ok(())
}

/// MXFP4, if both tensors are there and hold bytes: `blocks[expert, output, group, 16]` and
/// `scales[expert, output, group]` become `[expert, input, output]`, which is how the same checkpoint is laid out when it is
/// not quantised.
///
/// - **Source:** `convert_moe_packed_tensors` of transformers.
fn combine_groups(weights: &mut Weights, base: &str) -> Result<(), WeightsError> {
    let (blocks_name, scales_name) = (format!("{base}_blocks"), format!("{base}_scales"));
    let bytes = |stored: &&Stored| stored.format == NumberFormat::U8;
    let blocks = weights.tensors.get(&blocks_name).filter(bytes);
    let scales = weights.tensors.get(&scales_name).filter(bytes);
    let (Some(blocks), Some(scales)) = (blocks, scales) else { return Ok(()) };
    let [experts, outputs, groups, 16] = blocks.shape[..] else {
        let (found, wanted) = (blocks.shape.clone(), "[expert, output, group, 16]".into());
        return Err(WeightsError::Scales { name: blocks_name, found, wanted });
    };
    if scales.shape != [experts, outputs, groups] {
        let (found, wanted) = (scales.shape.clone(), format!("{:?}", [experts, outputs, groups]));
        return Err(WeightsError::Scales { name: scales_name, found, wanted });
    }
    // Each group has 16 bytes in the file and 32 numbers; only a shape with an axis of length 0 can run over.
    let shape = vec![experts, groups.saturating_mul(32), outputs];
    let place = blocks.place.clone();
    let stored = Stored {
        format: NumberFormat::Mxfp4,
        shape,
        place,
        scales: Some(Scales::Groups(scales.place.clone())),
    };
    weights.tensors.remove(&blocks_name);
    weights.tensors.remove(&scales_name);
    insert(weights, base, stored)
}

/// FP8, if both tensors are there: each block of a matrix has one scale, and a matrix may have a single one. Leading axes are
/// matrices of their own.
fn combine_blocks(weights: &mut Weights, base: &str, block: [usize; 2]) -> Result<(), WeightsError> {
    let scales_name = format!("{base}_scale_inv");
    let numbers = weights.tensors.get(base).filter(|stored| stored.format == NumberFormat::F8E4m3);
    let (Some(numbers), Some(scales)) = (numbers, weights.tensors.get(&scales_name)) else { return Ok(()) };
    let block = match scales.len() {
        1 => [usize::MAX; 2],
        _ => block,
    };
    let rank = numbers.shape.len();
    let mut wanted = numbers.shape.clone();
    if rank >= 2 {
        wanted[rank - 2] = wanted[rank - 2].div_ceil(block[0]);
        wanted[rank - 1] = wanted[rank - 1].div_ceil(block[1]);
    }
    // One number may be the scale of one matrix; several matrices have several.
    let alone = scales.len() == 1 && wanted.iter().product::<usize>() == 1;
    if rank < 2 || (scales.shape != wanted && !alone) {
        let [down, across] = if block == [usize::MAX; 2] { BLOCK } else { block };
        let wanted = format!("{wanted:?} for blocks of {down} × {across} of {:?}", numbers.shape);
        return Err(WeightsError::Scales { name: scales_name, found: scales.shape.clone(), wanted });
    }
    let real =
        [NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16, NumberFormat::F8E8m0, NumberFormat::F64];
    if !real.contains(&scales.format) {
        return Err(WeightsError::NumberFormat { name: scales_name, found: scales.format });
    }
    let scales = Scales::Blocks { place: scales.place.clone(), format: scales.format, block };
    let (shape, place) = (numbers.shape.clone(), numbers.place.clone());
    weights.tensors.remove(&scales_name);
    let stored = Stored { format: NumberFormat::F8E4m3Blocks, shape, place, scales: Some(scales) };
    weights.tensors.insert(base.into(), stored);
    Ok(())
}

/// Adds a tensor under a name that must be free.
fn insert(weights: &mut Weights, name: &str, stored: Stored) -> Result<(), WeightsError> {
    let Place { file, .. } = stored.place;
    match weights.tensors.insert(name.into(), stored) {
        None => Ok(()),
        Some(_) => {
            let reason = format!("the tensor `{name}` stands both quantised and plain");
            Err(WeightsError::broken(weights.files[file].path(), reason))
        }
    }
}

/// `quantization_config.weight_block_size` of the configuration beside the weights, if it is there.
///
/// # Errors
/// If it is there and is no pair of lengths.
fn stated_block(weights: &Weights) -> Result<Option<[usize; 2]>, WeightsError> {
    #[derive(serde::Deserialize)]
    struct Configuration {
        quantization_config: Option<Quantisation>,
    }
    #[derive(serde::Deserialize)]
    struct Quantisation {
        weight_block_size: Option<[std::num::NonZeroUsize; 2]>,
    }
    let folder = if weights.path.is_dir() { Some(weights.path.as_path()) } else { weights.path.parent() };
    let Some(path) = folder.map(|folder| folder.join("config.json")).filter(|path| path.exists()) else {
        return Ok(None);
    };
    let text = moescope_host::read_text(&path)?;
    let configuration: Configuration =
        serde_json::from_str(&text).map_err(|source| WeightsError::Json { path, source })?;
    let block = configuration.quantization_config.and_then(|quantisation| quantisation.weight_block_size);
    Ok(block.map(|sides| sides.map(std::num::NonZeroUsize::get)))
}

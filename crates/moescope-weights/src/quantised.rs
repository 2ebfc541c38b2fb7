//! Tensors whose numbers and scales are stored apart, put together.

use crate::stored::{Place, Scales, Stored};
use crate::{NumberFormat, Weights, WeightsError};

/// Rows and columns that share a scale in FP8 checkpoints that do not say otherwise.
const BLOCK: [usize; 2] = [128, 128];

/// Replaces `X_blocks` and `X_scales` (MXFP4), and `X` and `X_scale_inv` (FP8), by one tensor `X` each.
///
/// # Errors
/// [`WeightsError::Scales`] where the two do not fit each other, and [`WeightsError::NoScales`] for a matrix in FP8 without scales in a
/// model whose configuration says that it has them.
pub(crate) fn combine(weights: &mut Weights) -> Result<(), WeightsError> {
    let names: Vec<String> = weights.tensors.keys().cloned().collect();
    let mut stated = None;
    for name in names {
        if let Some(base) = name.strip_suffix("_blocks") {
            combine_groups(weights, base)?;
        } else if let Some(base) = name.strip_suffix("_scale_inv") {
            let stated = match stated {
                Some(stated) => stated,
                None => *stated.insert(Stated::of(weights)?),
            };
            combine_blocks(weights, base, stated.block.unwrap_or(BLOCK))?;
        }
    }
    let alone = |stored: &Stored| stored.format == NumberFormat::F8E4m3 && stored.shape.len() >= 2;
    let Some((name, _)) = weights.tensors.iter().find(|(_, stored)| alone(stored)) else { return Ok(()) };
    match stated.map_or_else(|| Stated::of(weights), Ok)?.scaled {
        true => Err(WeightsError::NoScales { name: name.clone() }),
        false => Ok(()),
    }
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

/// What `quantization_config` of the configuration beside the weights says.
#[derive(Clone, Copy, Debug, Default)]
struct Stated {
    /// `weight_block_size`, if it is there.
    block: Option<[usize; 2]>,
    /// Whether the method is `fp8`, whose matrices all have scales.
    scaled: bool,
}

#[derive(serde::Deserialize)]
struct Configuration {
    quantization_config: Option<Quantisation>,
}

#[derive(serde::Deserialize)]
struct Quantisation {
    quant_method: Option<String>,
    weight_block_size: Option<[std::num::NonZeroUsize; 2]>,
}

impl Stated {
    /// # Errors
    /// If the configuration is there and cannot be read, or the size of blocks is no pair of lengths.
    fn of(weights: &Weights) -> Result<Stated, WeightsError> {
        let folder = if weights.path.is_dir() { Some(weights.path.as_path()) } else { weights.path.parent() };
        let Some(path) = folder.map(|folder| folder.join("config.json")).filter(|path| path.exists()) else {
            return Ok(Stated::default());
        };
        let text = moescope_host::read_text(&path)?;
        let configuration: Configuration =
            serde_json::from_str(&text).map_err(|source| WeightsError::Json { path, source })?;
        let Some(said) = configuration.quantization_config else { return Ok(Stated::default()) };
        let block = said.weight_block_size.map(|sides| sides.map(std::num::NonZeroUsize::get));
        Ok(Stated { block, scaled: said.quant_method.as_deref() == Some("fp8") })
    }
}

//! Which tensors of the files make up each parameter.

use std::collections::BTreeSet;

use super::selection_bias_name;
use super::tensors::Tensors;
use crate::ModelError;
use crate::families::{ExpertNames, Family, Reading};
use crate::parameters::{Layout, Specification};

/// Where the numbers of one parameter come from.
pub(crate) enum Source {
    /// One tensor of the same shape.
    Whole(String),
    /// One tensor for each expert.
    Experts(Vec<String>),
    /// The first or second half of each expert's rows in a tensor that holds gate and up.
    Half { name: String, second: bool },
}

/// The source of every parameter of the layout, with shapes checked and no tensor left over.
///
/// # Errors
/// [`ModelError::MissingTensor`], [`ModelError::TensorShape`], and [`ModelError::UnexpectedTensor`] for one that
/// would be ignored: a bias or a shared expert left aside would give plausible and wrong results.
pub(crate) fn sources(
    tensors: &Tensors,
    reading: &Reading,
    layout: &Layout,
) -> Result<Vec<Source>, ModelError> {
    let mut used = BTreeSet::new();
    let mut sources = Vec::with_capacity(layout.specifications.len());
    for specification in &layout.specifications {
        let source = find(tensors, reading.family, specification)?;
        match &source {
            Source::Whole(name) | Source::Half { name, .. } => drop(used.insert(name.clone())),
            Source::Experts(names) => used.extend(names.iter().cloned()),
        }
        sources.push(source);
    }
    let unused = |name: &&str| {
        !used.contains(*name) && !without_effect(name, reading) && !is_selection_bias(name, reading)
    };
    match tensors.names().find(unused) {
        None => Ok(sources),
        Some(name) => Err(ModelError::UnexpectedTensor { path: tensors.folder().into(), name: name.into() }),
    }
}

/// Tables that old checkpoints store beside the weights, and the unembedding of a tied model.
fn without_effect(name: &str, reading: &Reading) -> bool {
    name.ends_with("rotary_emb.inv_freq") || (reading.description.tied_embeddings && name == "lm_head.weight")
}

/// Whether the tensor is the selection bias of a layer that can have one; only our own family writes them.
fn is_selection_bias(name: &str, reading: &Reading) -> bool {
    let layers = reading.description.feed_forward.iter().enumerate();
    let mut biased =
        layers.filter(|(_, layer)| layer.routed().is_some_and(|routed| routed.router.kind.scores()));
    reading.family.model_type == "moescope" && biased.any(|(layer, _)| selection_bias_name(layer) == name)
}

/// The source of one parameter, under the name that the family gives it.
fn find(tensors: &Tensors, family: &Family, wanted: &Specification) -> Result<Source, ModelError> {
    if let Some((prefix, leaf)) = wanted.name.split_once(".mlp.experts.") {
        return find_experts(tensors, &family.experts, prefix, leaf, wanted);
    }
    let module = family.experts.module;
    let own = match wanted.name.strip_suffix(".mlp.gate.weight") {
        Some(prefix) => format!("{prefix}.{module}.gate.weight"),
        None => wanted.name.clone(),
    };
    // Files in the fused layout of transformers 5 have the router under `mlp` in every family.
    let name = [own.clone(), wanted.name.clone()].into_iter().find(|name| tensors.get(name).is_some());
    let Some(name) = name else { return Err(missing(tensors, own)) };
    check_shape(tensors, &name, &wanted.shape)?;
    Ok(Source::Whole(name))
}

/// The source of one matrix of all experts, `leaf` of the block `prefix`: fused if the folder has that, else one by
/// one.
fn find_experts(
    tensors: &Tensors,
    names: &ExpertNames,
    prefix: &str,
    leaf: &str,
    wanted: &Specification,
) -> Result<Source, ModelError> {
    let [experts, outputs, inputs] = [wanted.shape[0], wanted.shape[1], wanted.shape[2]];
    let (own_leaf, fused, half) = match leaf {
        "gate_proj" => (names.gate, "gate_up_proj", Some(false)),
        "up_proj" => (names.up, "gate_up_proj", Some(true)),
        _ => (names.down, "down_proj", None),
    };
    let fused = format!("{prefix}.mlp.experts.{fused}");
    if tensors.get(&fused).is_some() {
        let rows = if half.is_some() { 2 * outputs } else { outputs };
        check_shape(tensors, &fused, &[experts, rows, inputs])?;
        return Ok(match half {
            Some(second) => Source::Half { name: fused, second },
            None => Source::Whole(fused),
        });
    }
    let name = |expert: usize| format!("{prefix}.{}.experts.{expert}.{own_leaf}.weight", names.module);
    let all: Vec<String> = (0..experts).map(name).collect();
    for name in &all {
        check_shape(tensors, name, &[outputs, inputs])?;
    }
    Ok(Source::Experts(all))
}

/// Refuses a tensor that is missing or of another shape.
fn check_shape(tensors: &Tensors, name: &str, wanted: &[usize]) -> Result<(), ModelError> {
    match tensors.get(name) {
        None => Err(missing(tensors, name.into())),
        Some(entry) if entry.shape == wanted => Ok(()),
        Some(entry) => Err(ModelError::TensorShape {
            name: name.into(),
            found: entry.shape.clone(),
            wanted: wanted.into(),
        }),
    }
}

/// The error for a tensor that the folder lacks.
fn missing(tensors: &Tensors, name: String) -> ModelError {
    ModelError::MissingTensor { path: tensors.folder().into(), name }
}

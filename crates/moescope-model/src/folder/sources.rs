//! Which tensors of the files make up each parameter.

use std::collections::BTreeSet;

use super::selection_bias_name;
use super::tensors::Tensors;
use super::tied::UNEMBEDDINGS;
use crate::ModelError;
use crate::description::{Description, Routed};
use crate::families::{Cut, ExpertNames, Groups, Reading};
use crate::parameters::{Layout, Specification};

/// Where the numbers of one parameter come from.
pub(crate) enum Source {
    /// One tensor of the same shape.
    Whole(String),
    /// One tensor for each expert.
    Experts(Vec<String>),
    /// Rows of a tensor.
    Rows(RowsOf),
}

/// Rows of a tensor whose rows come in groups of equal length.
pub(crate) struct RowsOf {
    pub(crate) name: String,
    /// Experts, where the first axis is theirs.
    pub(crate) leading: Option<usize>,
    /// Whether the rows stand as columns.
    pub(crate) transposed: bool,
    /// Number of groups.
    pub(crate) groups: usize,
    /// Rows of a group.
    pub(crate) of: usize,
    /// First row of ours in each group.
    pub(crate) start: usize,
    /// Rows of ours in each group.
    pub(crate) own: usize,
}

/// The source of every parameter of the layout, with shapes checked and no tensor left over.
///
/// # Errors
/// [`ModelError::MissingTensor`], [`ModelError::TensorShape`], and [`ModelError::UnexpectedTensor`] for one that
/// would be ignored: a bias or a shared expert left aside would give plausible and wrong results; and
/// [`ModelError::TensorFormat`] for whole numbers.
pub(crate) fn sources(
    tensors: &Tensors,
    reading: &Reading,
    layout: &Layout,
) -> Result<Vec<Source>, ModelError> {
    let mut used = BTreeSet::new();
    let mut sources = Vec::with_capacity(layout.specifications.len());
    for specification in &layout.specifications {
        let source = find(tensors, reading, specification)?;
        match &source {
            Source::Whole(name) | Source::Rows(RowsOf { name, .. }) => drop(used.insert(name.clone())),
            Source::Experts(names) => used.extend(names.iter().cloned()),
        }
        sources.push(source);
    }
    require_selection_biases(tensors, reading)?;
    used.iter().try_for_each(|name| tensors.require_real(name))?;
    let empty = |name: &str| tensors.get(name).is_some_and(|entry| entry.shape.contains(&0));
    let unused = |name: &&str| {
        !(used.contains(*name)
            || empty(name)
            || without_effect(name, tensors, reading)
            || is_selection_bias(name, reading))
    };
    match tensors.names().find(unused) {
        None => Ok(sources),
        Some(name) => Err(ModelError::UnexpectedTensor { path: tensors.folder().into(), name: name.into() }),
    }
}

/// Tables that old checkpoints store beside the weights, the unembedding of a tied model, and blocks after the last that predict
/// further tokens.
fn without_effect(name: &str, tensors: &Tensors, reading: &Reading) -> bool {
    let names = &reading.family.names;
    let ignored = names.ignored.iter().any(|ending| name.ends_with(ending));
    let tied = reading.description.tied_embeddings && UNEMBEDDINGS.contains(&name);
    let layer =
        name.strip_prefix(names.blocks).and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    let layers = reading.description.layers();
    let predicts = |l: &usize| {
        // What joins the stream with the next token's embedding, which an ordinary block has not.
        (layers..layers + reading.prediction_blocks).contains(l)
            && tensors.get(&format!("{}{l}.eh_proj.weight", names.blocks)).is_some()
    };
    let beyond = layer.as_ref().is_some_and(predicts);
    name.ends_with("rotary_emb.inv_freq") || ignored || tied || beyond
}

/// Layers of a description that choose by scores, with their numbers.
fn scored(description: &Description) -> impl Iterator<Item = (usize, &Routed)> {
    let layers = description.feed_forward.iter().enumerate();
    layers.filter_map(|(l, layer)| Some((l, layer.routed().filter(|routed| routed.router.kind.scores())?)))
}

/// Whether the tensor is the selection bias of a layer that can have one.
fn is_selection_bias(name: &str, reading: &Reading) -> bool {
    let biased = reading.family.selection_bias || reading.family.model_type == "moescope";
    biased && scored(&reading.description).any(|(layer, _)| selection_bias_name(layer) == name)
}

/// Refuses files without the selection biases that their family always has.
fn require_selection_biases(tensors: &Tensors, reading: &Reading) -> Result<(), ModelError> {
    if !reading.family.selection_bias {
        return Ok(());
    }
    for (layer, routed) in scored(&reading.description) {
        check_shape(tensors, &selection_bias_name(layer), &[routed.experts])?;
    }
    Ok(())
}

/// The source of one parameter, under the first of its names that the files hold.
fn find(tensors: &Tensors, reading: &Reading, wanted: &Specification) -> Result<Source, ModelError> {
    let expert = wanted.name.split_once(".mlp.experts.");
    let mut candidates = reading.family.names.candidates(&wanted.name);
    if let Some((prefix, leaf)) = expert {
        candidates.extend(fused(&reading.family.experts, prefix, leaf));
    }
    let there = |(name, _): &&(String, Cut)| tensors.get(name).is_some();
    if let Some((name, cut)) = candidates.iter().find(there) {
        return rows_of(tensors, &reading.description, wanted, name, *cut, expert.is_some());
    }
    match expert {
        Some((prefix, leaf)) => one_by_one(tensors, &reading.family.experts, prefix, leaf, wanted),
        None => Err(missing(tensors, candidates[0].0.clone())),
    }
}

/// Names of the tensor that holds a matrix of all experts of a block, in the fused layout of transformers 5.
fn fused(names: &ExpertNames, prefix: &str, leaf: &str) -> Vec<(String, Cut)> {
    let (tensor, cut) = match leaf {
        "gate_proj" => ("gate_up_proj", Cut::FIRST),
        "up_proj" => ("gate_up_proj", Cut::SECOND),
        _ => (leaf, Cut::WHOLE),
    };
    ["mlp", names.module]
        .into_iter()
        .map(|module| (format!("{prefix}.{module}.experts.{tensor}"), cut))
        .collect()
}

/// The rows of one tensor that a parameter is made of, with the shape of the tensor checked.
fn rows_of(
    tensors: &Tensors,
    description: &Description,
    wanted: &Specification,
    name: &str,
    cut: Cut,
    experts: bool,
) -> Result<Source, ModelError> {
    let leading = usize::from(experts);
    let rows = wanted.shape[leading];
    let groups = match cut.groups {
        Groups::One => 1,
        Groups::Heads => description.heads,
        Groups::Rows => rows,
    };
    let own = rows / groups;
    let (start, after) = ((cut.before)(description, own), (cut.after)(description, own));
    let of = start + own + after;
    let mut shape = wanted.shape.clone();
    shape[leading] = groups * of;
    if cut.transposed {
        shape[leading..].reverse();
    }
    check_shape(tensors, name, &shape)?;
    let name = name.to_owned();
    Ok(match of == own && !cut.transposed {
        true => Source::Whole(name),
        false => Source::Rows(RowsOf {
            name,
            leading: experts.then(|| wanted.shape[0]),
            transposed: cut.transposed,
            groups,
            of,
            start,
            own,
        }),
    })
}

/// A tensor for each expert.
fn one_by_one(
    tensors: &Tensors,
    names: &ExpertNames,
    prefix: &str,
    leaf: &str,
    wanted: &Specification,
) -> Result<Source, ModelError> {
    let (leaf, kind) = leaf.strip_suffix("_bias").map_or((leaf, "weight"), |leaf| (leaf, "bias"));
    let own_leaf = match leaf {
        "gate_proj" => names.gate,
        "up_proj" => names.up,
        _ => names.down,
    };
    let name = |expert: usize| format!("{prefix}.{}.experts.{expert}.{own_leaf}.{kind}", names.module);
    // The first name that is missing ends this, however many experts the configuration claims.
    let there = |expert: usize| {
        let name = name(expert);
        check_shape(tensors, &name, &wanted.shape[1..]).map(|()| name)
    };
    Ok(Source::Experts((0..wanted.shape[0]).map(there).collect::<Result<_, _>>()?))
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

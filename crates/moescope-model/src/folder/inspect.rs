//! What a folder holds, from its headers.

use std::path::Path;

use serde::Serialize;

use super::sources::sources;
use super::{open_checkpoint, read_checkpoint};
use crate::description::{Description, FeedForward, Routed};
use crate::families;
use crate::parameters::Layout;
use crate::{Granularity, ModelError};

/// The sizes of a model folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// `model_type` of the configuration.
    pub family: String,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Experts of a routed layer (the largest number, should layers differ); 0 in a dense model.
    pub experts: usize,
    /// Experts that a token passes through in such a layer; 0 in a dense model.
    pub experts_per_token: usize,
    /// Granularity of such a layer with the name of its definition, as of [`Granularity`]; `None` in a dense model.
    pub granularity: Option<String>,
    /// Numbers in all tensors of the files.
    pub params_total: u64,
    /// The same, less the experts that a token does not choose.
    ///
    /// Unlike [`Counts`](crate::Counts), it counts what the files hold, such as selection biases and a table that is
    /// stored twice.
    pub params_active: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Blocks whose feed-forward layer is routed.
    pub sparse_layers: Vec<usize>,
}

/// What a model is, without reading a single weight; names and shapes of its tensors are not looked at.
///
/// # Errors
/// For files that are missing or damaged, and a configuration that is not understood.
pub fn describe(path: &Path) -> Result<Description, ModelError> {
    let (configuration, _) = open_checkpoint(path)?;
    Ok(families::read(&configuration)?.description)
}

/// Looks at a model folder without reading a single weight.
///
/// Names and shapes are checked against the configuration, so a folder that passes will open unless its numbers are damaged.
///
/// # Errors
/// As [`Model::open`](crate::Model::open), but for the numbers themselves.
pub fn inspect(path: &Path) -> Result<Inspection, ModelError> {
    let (reading, tensors) = read_checkpoint(path)?;
    let layout = Layout::new(&reading.description);
    sources(&tensors, &reading, &layout)?;
    let description = &reading.description;
    let routed: Vec<&Routed> = description.feed_forward.iter().filter_map(FeedForward::routed).collect();
    let counts = description.counts();
    let resting = counts.parameters_total - counts.parameters_active;
    let params_total = tensors.numbers();
    let largest = routed.iter().max_by_key(|routed| routed.experts);
    Ok(Inspection {
        family: reading.family.model_type.into(),
        layers: description.layers(),
        d_model: description.d_model,
        vocab: description.vocab,
        experts: largest.map_or(0, |routed| routed.experts),
        experts_per_token: largest.map_or(0, |routed| routed.per_token),
        granularity: largest.map(|routed| Granularity::of(routed).to_string()),
        params_total,
        params_active: params_total.saturating_sub(resting),
        bytes: tensors.bytes(),
        sparse_layers: description.subject_shape().routed_layers(),
    })
}

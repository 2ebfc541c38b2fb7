use std::fmt;

use serde::{Deserialize, Serialize};

/// The meaning of one axis of a recorded value.
///
/// Shapes are data: each [`Site`](crate::Site) declares its axes, and a recorder checks every value against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Sequence within the batch.
    Batch,
    /// Position within the sequence.
    Pos,
    /// Rows of an expert: the tokens routed to it, in token order.
    Row,
    /// Attention head.
    Head,
    /// Query position of an attention pattern.
    Query,
    /// Key position of an attention pattern.
    Key,
    /// Coordinate of the residual stream.
    Model,
    /// Concatenated coordinates of all heads.
    HeadModel,
    /// Neuron of a feed-forward layer or of one expert.
    Neuron,
    /// Expert of a layer.
    Expert,
    /// Rank among a token's chosen experts, the largest weight first.
    Slot,
    /// Entry of the vocabulary.
    Vocab,
    /// An axis of length 1: one number for each token.
    Single,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Axis::Batch => "batch",
            Axis::Pos => "pos",
            Axis::Row => "row",
            Axis::Head => "head",
            Axis::Query => "query",
            Axis::Key => "key",
            Axis::Model => "d_model",
            Axis::HeadModel => "head_d_head",
            Axis::Neuron => "neuron",
            Axis::Expert => "expert",
            Axis::Slot => "slot",
            Axis::Vocab => "vocab",
            Axis::Single => "1",
        })
    }
}

//! Kernels that only some families of models need, each kind in a file.

pub(crate) mod activation;
pub(crate) mod attention_scores;
pub(crate) mod bias;
pub(crate) mod clamp;
pub(crate) mod gate;
pub(crate) mod join_heads;
pub(crate) mod layer_norm;
pub(crate) mod rotary_part;
pub(crate) mod row_factors;
pub(crate) mod sink_softmax;
pub(crate) mod slot_rows;
pub(crate) mod soft_cap;
pub(crate) mod sparse_mixer;

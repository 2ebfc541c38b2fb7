//! Mistral: as Llama, as long as its attention window covers the whole sequence.

use super::{Defaults, Family, PROJECTIONS, QkNorm, uniform_dense};

/// Unlike Llama, a missing number of key-value heads means eight.
pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    defaults: Defaults {
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        key_value_heads: Some(8),
        head_dim: None,
        max_positions: 131_072,
    },
    qk_norm: QkNorm::None,
    experts: PROJECTIONS,
    feed_forward: uniform_dense,
};

//! Llama: dense, without a norm of queries and keys.

use super::{Defaults, Family, PROJECTIONS, QkNorm, uniform_dense};

/// Defaults of the reference implementation, for keys that a checkpoint leaves out.
pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    defaults: Defaults {
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        key_value_heads: None,
        head_dim: None,
        max_positions: 2048,
    },
    qk_norm: QkNorm::None,
    experts: PROJECTIONS,
    feed_forward: uniform_dense,
};

//! Mixtral: softmax over all experts, the best chosen, weights divided by their sum.
//!
//! Experts are called `w1` (gate), `w3` (up) and `w2` (down). A softmax over all logits, then over the chosen by their sum, equals a
//! softmax over the chosen alone. Source: Jiang et al. 2024, "Mixtral of Experts", section 2.1.
//!
//! A missing window is none, unlike in Mistral. The newest library writes all experts as two tensors, `mlp.experts.gate_up_proj` with the gate
//! above, and `down_proj`; both ways are read.

use super::names::{Leaf, Names, OURS, renamed};
use super::{Defaults, ExpertNames, Family, PLAIN, mistral};
use crate::ModelError;
use crate::description::{FeedForward, Routed, Router};
use crate::folder::Configuration;

/// Experts are named `w1` (gate), `w3` (up) and `w2` (down), in the module `block_sparse_moe`.
pub(super) const FAMILY: Family = Family {
    model_type: "mixtral",
    architecture: "MixtralForCausalLM",
    defaults: Defaults {
        norm_epsilon: 1e-5,
        rope_theta: 1_000_000.0,
        key_value_heads: Some(8),
        max_positions: 131_072,
        ..PLAIN.defaults
    },
    experts: ExpertNames { module: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" },
    names: Names { leaves: &LEAVES, ..OURS },
    reads: &[
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "sliding_window",
        "layer_types",
        "hidden_act",
    ],
    fixtures: &[
        "checkpoints/mixtral__bf16_sharded",
        "checkpoints/mixtral_bare",
        "gguf/mixtral.gguf",
        "gguf/mixtral_by_expert.gguf",
    ],
    routed: true,
    feed_forward,
    vary: |configuration, description| mistral::every_layer(configuration, description, None),
    ..PLAIN
};

const LEAVES: [Leaf; 1] = [renamed("mlp.gate.weight", "block_sparse_moe.gate.weight")];

/// Every layer is routed; the weights of the chosen always sum to one.
fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let routed = Routed {
        experts: configuration.size_of(&["num_local_experts", "num_experts"])?,
        expert_width: configuration.size("intermediate_size")?,
        per_token: configuration.size("num_experts_per_tok")?,
        router: Router::learned(true),
        shared: None,
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

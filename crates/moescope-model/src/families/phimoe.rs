//! PhiMoE: two experts are chosen one after the other and weighted among those that come near them; LayerNorm, biases of attention
//! and of the unembedding.
//!
//! The second expert is chosen from what is left after the first is masked; each is weighted by a softmax over the logits that lie
//! within a tolerance (`router_jitter_noise`) of the largest. The gradient is that of these weights, not of the sampler used in training.
//! Source: Abdin et al. 2024, "Phi-3 Technical Report"; Liu et al. 2023, "Sparse Backpropagation for MoE Training".
//!
//! Other numbers of experts for each token than two are refused. LongRoPE beyond the original length takes the divisors of long sequences, as the
//! code published with the model does; transformers 5.24 forgets the length there and takes those of short ones.

use super::names::{Leaf, Names, OURS, renamed};
use super::{Defaults, ExpertNames, Family, PLAIN, mistral, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Order, Routed, Router};
use crate::folder::Configuration;
use crate::variation::Norm;

/// Names of experts are those of Mixtral.
pub(super) const FAMILY: Family = Family {
    model_type: "phimoe",
    architecture: "PhimoeForCausalLM",
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
        "router_jitter_noise",
        "attention_bias",
        "lm_head_bias",
        "sliding_window",
        "layer_types",
        "hidden_act",
    ],
    fixtures: &["checkpoints/phimoe", "checkpoints/phimoe_longrope"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

const LEAVES: [Leaf; 2] = [
    renamed("mlp.gate.weight", "block_sparse_moe.gate.weight"),
    renamed("mlp.gate.weight", "mlp.router.weight"),
];

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let routed = Routed {
        experts: configuration.size_of(&["num_local_experts", "num_experts"])?,
        expert_width: configuration.size("intermediate_size")?,
        per_token: configuration.size_if("num_experts_per_tok")?.unwrap_or(2),
        router: Router {
            order: Order::OneByOne,
            tolerance: options::number(configuration, "router_jitter_noise", 0.01)?,
            ..Router::learned(false)
        },
        shared: None,
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    mistral::every_layer(configuration, description, None)?;
    let variation = &mut description.variation;
    variation.norm = Norm::Layer;
    variation.biases = options::attention_bias(configuration, false)?;
    variation.biases.unembedding = configuration.flag("lm_head_bias")?;
    Ok(())
}

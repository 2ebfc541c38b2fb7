//! Granite-MoE: the largest logits are chosen and a softmax over them weighs; embedding, scores, what is written and logits have
//! constant factors.
//!
//! The factors are `embedding_multiplier`, `attention_multiplier` (in place of one over the root of the head's size),
//! `residual_multiplier` and `logits_scaling`, by which logits are divided. Experts lie in two tensors, `input_linear` with gate above
//! up, and `output_linear`. Source: IBM 2024, "Granite 3.0 Language Models".
//!
//! `attention_multiplier` is 1 where it is absent, and not one over the root of the head's size: a file that leaves it out has scores several
//! times as large as its relatives.

use super::names::{Cut, Leaf, Names, OURS, part, renamed};
use super::{ExpertNames, Family, PLAIN, PROJECTIONS, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Order, Routed, Router};
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// Gate and linear branch of all experts are one tensor, in either naming.
pub(super) const FAMILY: Family = Family {
    model_type: "granitemoe",
    architecture: "GraniteMoeForCausalLM",
    experts: ExpertNames { module: "block_sparse_moe", ..PROJECTIONS },
    names: Names { leaves: &LEAVES, ..OURS },
    reads: &[
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "attention_bias",
        "embedding_multiplier",
        "logits_scaling",
        "residual_multiplier",
        "attention_multiplier",
        "hidden_act",
    ],
    fixtures: &["checkpoints/granitemoe"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

const LEAVES: [Leaf; 5] = [
    renamed("mlp.gate.weight", "block_sparse_moe.router.layer.weight"),
    renamed("mlp.gate.weight", "block_sparse_moe.router.weight"),
    part("mlp.experts.gate_proj", "block_sparse_moe.input_linear.weight", Cut::FIRST),
    part("mlp.experts.up_proj", "block_sparse_moe.input_linear.weight", Cut::SECOND),
    renamed("mlp.experts.down_proj", "block_sparse_moe.output_linear.weight"),
];

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let routed = Routed {
        experts: configuration.size_of(&["num_local_experts", "num_experts"])?,
        expert_width: configuration.size("intermediate_size")?,
        per_token: configuration.size("num_experts_per_tok")?,
        router: Router { order: Order::SelectThenScore, ..Router::learned(false) },
        shared: None,
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

/// Logits are divided by their factor, all else is multiplied.
fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let number = |key| options::number(configuration, key, 1.0);
    let variation = &mut description.variation;
    variation.embedding_scale = number("embedding_multiplier")?;
    variation.residual_scale = number("residual_multiplier")?;
    variation.logit_scale = 1.0 / number("logits_scaling")?;
    variation.attention.scale = Some(number("attention_multiplier")?);
    variation.biases = options::attention_bias(configuration, false)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

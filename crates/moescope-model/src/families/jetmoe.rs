//! JetMoE: experts in attention too, each with queries and an output of its own; the largest logits are chosen and a softmax over
//! them weighs.
//!
//! Keys and values are shared by the experts of attention, so a token's heads are those of its chosen query experts, one after the
//! other. Sites of these experts are those of attention; routes of attention have no edits.
//! Source: Shen et al. 2024, "JetMoE: Reaching Llama2 Performance with 0.1M Dollars".
//!
//! Files of before version 5 spell sizes otherwise (`moe_num_experts`, `moe_top_k`, `ffn_hidden_size`); both spellings are read.

use super::names::{Cut, Leaf, Names, OURS, part, renamed};
use super::{Defaults, Family, PLAIN, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Order, Routed, Router};
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron, QueryExperts};

/// The names of experts are those of a matrix of all experts.
pub(super) const FAMILY: Family = Family {
    model_type: "jetmoe",
    architecture: "JetMoeForCausalLM",
    defaults: Defaults { max_positions: 4096, tied_embeddings: true, ..PLAIN.defaults },
    // Query heads follow from the number of experts that a token chooses.
    heads: &["num_key_value_heads"],
    names: Names { leaves: &LEAVES, ..OURS },
    reads: &[
        "num_local_experts",
        "moe_num_experts",
        "num_experts_per_tok",
        "moe_top_k",
        "ffn_hidden_size",
        "kv_channels",
        "activation_function",
    ],
    fixtures: &["checkpoints/jetmoe"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

const LEAVES: [Leaf; 11] = [
    renamed("self_attn.router.weight", "self_attention.experts.router.layer.weight"),
    renamed("self_attn.experts.q_proj", "self_attention.experts.input_linear.weight"),
    renamed("self_attn.experts.o_proj", "self_attention.experts.output_linear.weight"),
    renamed("self_attn.experts.output_bias", "self_attention.experts.bias"),
    part("self_attn.k_proj.weight", "self_attention.kv_proj.weight", Cut::FIRST),
    part("self_attn.v_proj.weight", "self_attention.kv_proj.weight", Cut::SECOND),
    renamed("mlp.gate.weight", "mlp.router.layer.weight"),
    part("mlp.experts.gate_proj", "mlp.input_linear.weight", Cut::FIRST),
    part("mlp.experts.up_proj", "mlp.input_linear.weight", Cut::SECOND),
    renamed("mlp.experts.down_proj", "mlp.output_linear.weight"),
    renamed("mlp.routed_bias", "mlp.bias"),
];

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let routed = Routed {
        experts: configuration.size_of(&["num_local_experts", "moe_num_experts"])?,
        expert_width: configuration.size_of(&["intermediate_size", "ffn_hidden_size"])?,
        per_token: configuration.size_of(&["num_experts_per_tok", "moe_top_k"])?,
        router: Router { order: Order::SelectThenScore, ..Router::learned(false) },
        shared: None,
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

/// As many query heads as key heads for each chosen expert. The norms of blocks do not follow the key of their epsilon in the
/// reference implementation; the last one does.
fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let Some(FeedForward::Routed(routed)) = description.feed_forward.first() else { return Ok(()) };
    let (experts, per_token) = (routed.experts, routed.per_token);
    let shared = configuration.size_if("num_key_value_heads")?.unwrap_or(16);
    description.key_value_heads = shared;
    description.heads = shared * per_token;
    description.head_dim = configuration.size_if("kv_channels")?.unwrap_or(128);
    let variation = &mut description.variation;
    variation.block_norm_epsilon = Some(1e-6).filter(|own| *own != description.norm_epsilon);
    variation.attention.query_experts = Some(QueryExperts { experts, per_token });
    variation.biases.attention_output = true;
    variation.biases.routed_output = true;
    let activation = options::activation(configuration, "activation_function", Activation::Silu)?;
    variation.neuron = Neuron::Gated(activation);
    Ok(())
}

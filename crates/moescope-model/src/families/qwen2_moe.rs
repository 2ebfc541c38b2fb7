//! Qwen2-MoE: as Qwen3-MoE, with an expert that all tokens share, weighted by a sigmoid, and biases of queries, keys and values.
//!
//! The shared expert's weight is a sigmoid of a product of its own (`shared_expert_gate`), not of the router's logits.
//! `norm_topk_prob` is false in the published models. Source: Qwen Team 2024, "Qwen1.5-MoE".
//!
//! `qkv_bias: false` takes the biases away. A layer that is not routed, by `decoder_sparse_step` or `mlp_only_layers`, is dense and has no
//! shared expert.

use super::{Defaults, Family, PLAIN, options, qwen3_moe};
use crate::ModelError;
use crate::description::{Description, FeedForward, Shared};
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// In this family windows come first: with the switch on, every other layer below `max_window_layers` sees one.
pub(super) const FAMILY: Family = Family {
    model_type: "qwen2_moe",
    architecture: "Qwen2MoeForCausalLM",
    defaults: Defaults { key_value_heads: Some(16), max_positions: 32_768, ..PLAIN.defaults },
    reads: &[
        "num_experts",
        "num_local_experts",
        "moe_intermediate_size",
        "num_experts_per_tok",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "shared_expert_intermediate_size",
        "qkv_bias",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
        "hidden_act",
        qwen3_moe::FROZEN,
    ],
    fixtures: &["checkpoints/qwen2_moe", "checkpoints/qwen2_moe_windows", "gguf/qwen2_moe.gguf"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let mut all = qwen3_moe::feed_forward(configuration, layers)?;
    let width = configuration.size_if("shared_expert_intermediate_size")?.unwrap_or(5632);
    for layer in &mut all {
        if let FeedForward::Routed(routed) = layer {
            routed.shared = Some(Shared { width, weighted: true });
        }
    }
    Ok(all)
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let window = options::switched_window(configuration)?;
    let below = configuration.size_if("max_window_layers")?.unwrap_or(28);
    let sizes = (description.layers(), description.max_positions);
    let sliding = |layer: usize| window.is_some() && layer.is_multiple_of(2) && layer < below;
    let variation = &mut description.variation;
    variation.attention.windows = options::windows(configuration, window, sizes, sliding)?;
    variation.biases.attention_inputs = options::flag(configuration, "qkv_bias", true)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

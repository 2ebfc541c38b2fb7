//! Gemma-2: dense; norms before and after each half of a block, capped scores and logits, a window in every other layer, a scaled
//! embedding.
//!
//! A norm multiplies by one plus its weight: one is added when the weights are read. Scores are divided by the root of
//! `query_pre_attn_scalar`, not of the head's size. Caps are `cap · tanh(x / cap)`, before the mask in attention.
//! Source: Gemma Team 2024, "Gemma 2", section 2.
//!
//! Either cap may be null, which is none; an absent one is that of the published models, 50 for scores and 30 for logits.

use super::names::{Leaf, Names, OURS, renamed};
use super::{Defaults, Family, PLAIN, options};
use crate::ModelError;
use crate::description::Description;
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron, NormPlacement};

/// Norms store their scale less one; ours is the scale itself.
pub(super) const FAMILY: Family = Family {
    model_type: "gemma2",
    architecture: "Gemma2ForCausalLM",
    defaults: Defaults {
        key_value_heads: Some(4),
        head_dim: Some(256),
        max_positions: 8192,
        tied_embeddings: true,
        ..PLAIN.defaults
    },
    names: Names { leaves: &LEAVES, ..OURS },
    reads: &[
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention_bias",
        "sliding_window",
        "layer_types",
        "hidden_activation",
    ],
    fixtures: &["checkpoints/gemma2"],
    vary,
    norms_less_one: true,
    ..PLAIN
};

const LEAVES: [Leaf; 3] = [
    renamed("attention_out_norm.weight", "post_attention_layernorm.weight"),
    renamed("post_attention_layernorm.weight", "pre_feedforward_layernorm.weight"),
    renamed("feed_forward_out_norm.weight", "post_feedforward_layernorm.weight"),
];

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let window = options::window(configuration, Some(4096))?;
    let sizes = (description.layers(), description.max_positions);
    let even = |layer: usize| window.is_some() && layer.is_multiple_of(2);
    let cap = |key: &str, usual: f64| match configuration.has(key) {
        true => configuration.number_if(key),
        false => Ok(Some(usual)),
    };
    let activation = options::activation(configuration, "hidden_activation", Activation::GeluTanh)?;
    let width = description.d_model as f64;
    let variation = &mut description.variation;
    variation.norm_placement = NormPlacement::Around;
    variation.attention.windows = options::windows(configuration, window, sizes, even)?;
    variation.attention.cap = cap("attn_logit_softcapping", 50.0)?;
    variation.attention.scale =
        Some(1.0 / options::number(configuration, "query_pre_attn_scalar", 256.0)?.sqrt());
    variation.neuron = Neuron::Gated(activation);
    variation.biases = options::attention_bias(configuration, false)?;
    variation.embedding_scale = width.sqrt();
    variation.logit_cap = cap("final_logit_softcapping", 30.0)?;
    Ok(())
}

//! OLMo-2: dense; norms stand after attention and feed-forward layer, and one norm spans all query heads, one all key heads.
//!
//! The residual stream itself is read without a norm, so `hook_attn_out` and `hook_mlp_out` are after the norm that follows.
//! Source: OLMo Team 2024, "2 OLMo 2 Furious", section 3.2.
//!
//! With as many key heads as query heads or fewer, each norm has the width of its own heads together.

use super::names::{Leaf, Names, OURS, renamed};
use super::{Defaults, Family, PLAIN, QkNorm, options};
use crate::ModelError;
use crate::description::Description;
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron, NormPlacement};

/// The name that stands for the norm before the feed-forward layer elsewhere is that of the norm after attention here.
pub(super) const FAMILY: Family = Family {
    model_type: "olmo2",
    architecture: "Olmo2ForCausalLM",
    defaults: Defaults { norm_epsilon: 1e-5, ..PLAIN.defaults },
    qk_norm: QkNorm::Wide,
    names: Names { leaves: &LEAVES, ..OURS },
    reads: &["attention_bias", "hidden_act"],
    fixtures: &["checkpoints/olmo2"],
    vary,
    ..PLAIN
};

const LEAVES: [Leaf; 2] = [
    renamed("attention_out_norm.weight", "post_attention_layernorm.weight"),
    renamed("feed_forward_out_norm.weight", "post_feedforward_layernorm.weight"),
];

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let variation = &mut description.variation;
    variation.norm_placement = NormPlacement::After;
    variation.biases = options::attention_bias(configuration, false)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

//! OLMoE: softmax over all experts, the best chosen, weights as scored; one norm over all query heads and one over all key heads.
//!
//! `norm_topk_prob` is false in the published model: weights sum to less than one. `clip_qkv` cuts queries, keys and values before
//! their norm. Source: Muennighoff et al. 2024, "OLMoE".
//!
//! `intermediate_size` is the width of one expert. The norm spans all heads, so there is no head whose size could differ: the reference has
//! no result for a `head_dim` of its own.

use super::{Defaults, Family, PLAIN, QkNorm, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Routed, Router};
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// Of these, `intermediate_size` is the width of one expert: there are no dense layers.
pub(super) const FAMILY: Family = Family {
    model_type: "olmoe",
    architecture: "OlmoeForCausalLM",
    defaults: Defaults { norm_epsilon: 1e-5, max_positions: 4096, ..PLAIN.defaults },
    qk_norm: QkNorm::Wide,
    reads: &[
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "attention_bias",
        "clip_qkv",
        "hidden_act",
    ],
    fixtures: &["checkpoints/olmoe__fused"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

/// Every layer is routed; `norm_topk_prob`, false when absent, says whether weights are divided by their sum.
fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let routed = Routed {
        experts: configuration.size_of(&["num_experts", "num_local_experts"])?,
        expert_width: configuration.size("intermediate_size")?,
        per_token: configuration.size("num_experts_per_tok")?,
        router: Router::learned(configuration.flag("norm_topk_prob")?),
        shared: None,
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let variation = &mut description.variation;
    variation.attention.clip = configuration.number_if("clip_qkv")?;
    variation.biases = options::attention_bias(configuration, false)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

//! Qwen3-MoE: softmax over all experts, the best chosen, weights optionally divided by their sum; dense layers may be mixed in.
//! Our own routed models are of this family where it can express them.

use serde_json::{Map, Value, json};

use super::{Defaults, Family, PLAIN, QkNorm, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Order, Routed, Router, RouterKind, Score};
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// Unlike dense Qwen3, a missing `head_dim` means the width of the model over the number of heads.
pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_moe",
    architecture: "Qwen3MoeForCausalLM",
    defaults: Defaults { key_value_heads: Some(4), max_positions: 32_768, ..PLAIN.defaults },
    qk_norm: QkNorm::Heads,
    reads: &[
        "num_experts",
        "num_local_experts",
        "moe_intermediate_size",
        "num_experts_per_tok",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "attention_bias",
        "sliding_window",
        "use_sliding_window",
        "layer_types",
        "hidden_act",
        FROZEN,
    ],
    fixtures: &[
        "checkpoints/qwen3_moe",
        "gguf/qwen3_moe.gguf",
        "transformers_opens/frozen",
        "transformers_opens/mixed",
        "transformers_opens/moe",
    ],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

/// With the switch on, every layer sees a window.
fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let window = options::switched_window(configuration)?;
    let sizes = (description.layers(), description.max_positions);
    let variation = &mut description.variation;
    variation.attention.windows = options::same_windows(configuration, window, sizes)?;
    variation.biases = options::attention_bias(configuration, false)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

/// A key of ours, which other readers ignore: a router that was never trained is to stay so.
pub(super) const FROZEN: &str = "moescope_frozen_router";

/// A block is routed when its number, counted from 1, is a multiple of `decoder_sparse_step` and it is not in
/// `mlp_only_layers`.
pub(super) fn feed_forward(
    configuration: &Configuration,
    layers: usize,
) -> Result<Vec<FeedForward>, ModelError> {
    let kind = match configuration.flag(FROZEN)? {
        true => RouterKind::Frozen,
        false => RouterKind::Learned,
    };
    let renormalise = configuration.flag("norm_topk_prob")?;
    let routed = Routed {
        experts: configuration.size_of(&["num_experts", "num_local_experts"])?,
        expert_width: configuration.size("moe_intermediate_size")?,
        per_token: configuration.size("num_experts_per_tok")?,
        router: Router { kind, ..Router::learned(renormalise) },
        shared: None,
    };
    let step = configuration.size_if("decoder_sparse_step")?.unwrap_or(1);
    let dense = configuration.sizes("mlp_only_layers")?;
    let layer = |layer: usize| {
        let sparse = step > 0 && (layer + 1).is_multiple_of(step) && !dense.contains(&layer);
        match sparse && routed.experts > 0 {
            true => Ok(FeedForward::Routed(routed.clone())),
            false => Ok(FeedForward::Dense { width: configuration.size("intermediate_size")? }),
        }
    };
    (0..layers).map(layer).collect()
}

/// The family's own keys, if it can express the model: all routed layers alike, all dense layers alike.
pub(super) fn express(description: &Description) -> Option<Map<String, Value>> {
    let layers = &description.feed_forward;
    let routed = layers.iter().find_map(FeedForward::routed)?;
    let width = layers.iter().find_map(|layer| match layer {
        FeedForward::Dense { width } => Some(*width),
        _ => None,
    });
    let alike = layers.iter().all(|layer| match layer {
        FeedForward::Dense { width: own } => Some(*own) == width,
        FeedForward::TopKDense { .. } => false,
        FeedForward::Routed(own) => own == routed,
    });
    let router = &routed.router;
    let plain = matches!(router.kind, RouterKind::Learned | RouterKind::Frozen)
        && (router.score, router.order) == (Score::Softmax, Order::ScoreThenSelect)
        && router.groups.is_none()
        && router.scale == 1.0
        && routed.shared.is_none();
    (alike && plain).then(|| keys(description, routed, width))
}

/// The keys of a model that the family can express. Dense blocks are listed one by one, so any pattern of them can be
/// told.
fn keys(description: &Description, routed: &Routed, dense_width: Option<usize>) -> Map<String, Value> {
    let layers = description.feed_forward.iter().enumerate();
    let dense: Vec<usize> = layers.filter(|(_, layer)| layer.routed().is_none()).map(|(l, _)| l).collect();
    let keys = json!({
        "num_experts": routed.experts,
        "num_experts_per_tok": routed.per_token,
        "moe_intermediate_size": routed.expert_width,
        "norm_topk_prob": routed.router.renormalise,
        "decoder_sparse_step": 1,
        "mlp_only_layers": dense,
        // Without dense layers nothing reads the width; the active width is then the natural one to state.
        "intermediate_size": dense_width.unwrap_or(routed.per_token * routed.expert_width),
        "max_window_layers": description.layers(),
        "output_router_logits": false,
        "router_aux_loss_coef": 0.001,
    });
    let Value::Object(mut keys) = keys else { unreachable!("written as an object above") };
    if routed.router.kind == RouterKind::Frozen {
        keys.insert(FROZEN.into(), json!(true));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sparse_layers_follow_step_and_exceptions() {
        let configuration = Configuration::of(json!({
            "num_local_experts": 4, "moe_intermediate_size": 8, "num_experts_per_tok": 2, "intermediate_size": 16,
            "decoder_sparse_step": 2, "mlp_only_layers": [3],
        }));
        let layers = feed_forward(&configuration, 6).unwrap();
        let sparse: Vec<bool> = layers.iter().map(|layer| layer.routed().is_some()).collect();
        assert_eq!(sparse, [false, true, false, false, false, true]);
    }
}

//! gpt-oss: attention with sinks, every other layer with a window; the largest logits are chosen and a softmax over them weighs;
//! clamped gates and biases in experts and router.
//!
//! Rows of gate and up alternate in one tensor. A gate is cut from above at `swiglu_limit`, the other branch on both sides; the answer
//! is `gate · sigmoid(1.702 gate) · (up + 1)`. A sink is one more logit in each head's softmax, which takes weight and gives nothing:
//! patterns sum to less than one. Source: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card".
//!
//! A `sliding_window` of null goes with layers of full attention alone; with others in `layer_types` it is an error.

use super::names::{Cut, Groups, Leaf, NONE, Names, OURS, OWN, part, renamed};
use super::{Defaults, Family, PLAIN, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Order, Routed, Router};
use crate::folder::Configuration;
use crate::scaling::Scaling;
use crate::variation::{Neuron, Positions, Turning};

/// Gate and linear branch are rows by turns of one tensor, and matrices of experts are stored `[input, output]`.
pub(super) const FAMILY: Family = Family {
    model_type: "gpt_oss",
    architecture: "GptOssForCausalLM",
    defaults: Defaults {
        norm_epsilon: 1e-5,
        rope_theta: 150_000.0,
        key_value_heads: Some(8),
        head_dim: Some(64),
        max_positions: 131_072,
        ..PLAIN.defaults
    },
    names: Names { leaves: &LEAVES, ..OURS },
    reads: &[
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "experts_per_token",
        "swiglu_alpha",
        "swiglu_limit",
        "attention_bias",
        "sliding_window",
        "layer_types",
    ],
    fixtures: &["checkpoints/gpt_oss", "checkpoints/gpt_oss_mxfp4", "gguf/gpt_oss.gguf"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

const EVEN: Cut = Cut::rows(Groups::Rows, NONE, OWN);
const ODD: Cut = Cut::rows(Groups::Rows, OWN, NONE);

const LEAVES: [Leaf; 8] = [
    renamed("mlp.gate.weight", "mlp.router.weight"),
    renamed("mlp.gate.bias", "mlp.router.bias"),
    part("mlp.experts.gate_proj", "mlp.experts.gate_up_proj", EVEN.transposed()),
    part("mlp.experts.gate_proj_bias", "mlp.experts.gate_up_proj_bias", EVEN),
    part("mlp.experts.up_proj", "mlp.experts.gate_up_proj", ODD.transposed()),
    part("mlp.experts.up_proj_bias", "mlp.experts.gate_up_proj_bias", ODD),
    part("mlp.experts.down_proj", "mlp.experts.down_proj", Cut::TRANSPOSED),
    renamed("mlp.experts.down_proj_bias", "mlp.experts.down_proj_bias"),
];

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let per_token = configuration.size_of(&["num_experts_per_tok", "experts_per_token"])?;
    let routed = Routed {
        experts: configuration.size_of(&["num_local_experts", "num_experts"])?,
        expert_width: configuration.size("intermediate_size")?,
        per_token,
        router: Router { order: Order::SelectThenScore, ..Router::learned(false) },
        shared: None,
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let window = options::window(configuration, Some(128))?;
    let sizes = (description.layers(), description.max_positions);
    let even = |layer: usize| window.is_some() && layer.is_multiple_of(2);
    let variation = &mut description.variation;
    variation.attention.windows = options::windows(configuration, window, sizes, even)?;
    variation.attention.sinks = true;
    variation.neuron = Neuron::Clamped {
        alpha: options::number(configuration, "swiglu_alpha", 1.702)?,
        limit: options::number(configuration, "swiglu_limit", 7.0)?,
    };
    variation.biases = options::attention_bias(configuration, true)?;
    (variation.biases.experts, variation.biases.router) = (true, true);
    // A scaling of null is how the older spelling says that there is none.
    if configuration.get("rope_parameters").is_none() && !configuration.has("rope_scaling") {
        variation.positions = Positions::Rotary(Turning { scaling: usual_scaling(), ..Turning::default() });
    }
    Ok(())
}

/// What a configuration means that says nothing.
fn usual_scaling() -> Scaling {
    Scaling::Yarn {
        factor: 32.0,
        original: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: false,
        magnitude: 0.1 * 32f64.ln() + 1.0,
    }
}

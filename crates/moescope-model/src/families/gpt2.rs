//! GPT-2: dense; LayerNorm, learned positions, one matrix for queries, keys and values, biases everywhere, no gate.
//!
//! Matrices are stored as `[input, output]`, turned over against all other families. The hidden size of the feed-forward layer is four
//! times the model's where `n_inner` says nothing. `scale_attn_by_inverse_layer_idx` divides scores by the number of the layer.
//! Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
//!
//! Files may leave out `transformer.` before all names, as the published ones do, and hold masks as tensors, which are passed over.

use super::names::{Cut, Groups, Leaf, NONE, Names, OWN, Rows, TWICE, part, renamed};
use super::{Defaults, Family, PLAIN, effects, options};
use crate::ModelError;
use crate::description::{Description, FeedForward};
use crate::folder::Configuration;
use crate::variation::{Activation, Biases, Neuron, Norm, Positions};

/// Matrices are stored `[input, output]`.
pub(super) const FAMILY: Family = Family {
    model_type: "gpt2",
    architecture: "GPT2LMHeadModel",
    defaults: Defaults { norm_epsilon: 1e-5, max_positions: 1024, tied_embeddings: true, ..PLAIN.defaults },
    names: Names {
        base: "transformer.",
        blocks: "transformer.h.",
        tables: &TABLES,
        leaves: &LEAVES,
        ignored: &[".attn.bias", ".attn.masked_bias"],
    },
    epsilon: "layer_norm_epsilon",
    reads: &[
        "layer_norm_epsilon",
        "n_inner",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "activation_function",
    ],
    fixtures: &["checkpoints/gpt2"],
    feed_forward,
    vary,
    ..PLAIN
};

const TABLES: [(&str, &str); 4] = [
    ("model.embed_tokens.weight", "transformer.wte.weight"),
    ("model.position_embeddings.weight", "transformer.wpe.weight"),
    ("model.norm.weight", "transformer.ln_f.weight"),
    ("model.norm.bias", "transformer.ln_f.bias"),
];

/// One third of the tensor of queries, keys and values.
const fn third(before: Rows, after: Rows) -> Cut {
    Cut::rows(Groups::One, before, after)
}

const QUERY: Cut = third(NONE, TWICE);
const KEY: Cut = third(OWN, OWN);
const VALUE: Cut = third(TWICE, NONE);

const LEAVES: [Leaf; 16] = [
    renamed("input_layernorm.weight", "ln_1.weight"),
    renamed("input_layernorm.bias", "ln_1.bias"),
    part("self_attn.q_proj.weight", "attn.c_attn.weight", QUERY.transposed()),
    part("self_attn.q_proj.bias", "attn.c_attn.bias", QUERY),
    part("self_attn.k_proj.weight", "attn.c_attn.weight", KEY.transposed()),
    part("self_attn.k_proj.bias", "attn.c_attn.bias", KEY),
    part("self_attn.v_proj.weight", "attn.c_attn.weight", VALUE.transposed()),
    part("self_attn.v_proj.bias", "attn.c_attn.bias", VALUE),
    part("self_attn.o_proj.weight", "attn.c_proj.weight", Cut::TRANSPOSED),
    renamed("self_attn.o_proj.bias", "attn.c_proj.bias"),
    renamed("post_attention_layernorm.weight", "ln_2.weight"),
    renamed("post_attention_layernorm.bias", "ln_2.bias"),
    part("mlp.gate_proj.weight", "mlp.c_fc.weight", Cut::TRANSPOSED),
    renamed("mlp.gate_proj.bias", "mlp.c_fc.bias"),
    part("mlp.down_proj.weight", "mlp.c_proj.weight", Cut::TRANSPOSED),
    renamed("mlp.down_proj.bias", "mlp.c_proj.bias"),
];

/// Four times as wide as the stream unless `n_inner` says otherwise.
fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let width = match configuration.size_if("n_inner")? {
        Some(width) => width,
        None => 4 * configuration.size_of(&["n_embd", "hidden_size"])?,
    };
    Ok(vec![FeedForward::Dense { width }; layers])
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    effects::expect(configuration, "head_dim", "absent: heads share out the width", |_| false)?;
    effects::expect_no_groups(configuration, description.heads)?;
    let unscaled = !options::flag(configuration, "scale_attn_weights", true)?;
    let activation = options::activation(configuration, "activation_function", Activation::GeluTanh)?;
    let variation = &mut description.variation;
    variation.norm = Norm::Layer;
    variation.positions = Positions::Learned;
    variation.attention.scale = unscaled.then_some(1.0);
    variation.attention.scale_by_layer = configuration.flag("scale_attn_by_inverse_layer_idx")?;
    variation.neuron = Neuron::Plain(activation);
    variation.biases =
        Biases { attention_inputs: true, attention_output: true, feed_forward: true, ..Biases::default() };
    Ok(())
}

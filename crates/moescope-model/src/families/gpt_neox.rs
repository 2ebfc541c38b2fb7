//! GPT-NeoX and Pythia: dense; LayerNorm, part of each head turns, attention and feed-forward layer side by side, no gate.
//!
//! Queries, keys and values of a head stand together in one matrix, head by head, and not all queries first. With
//! `use_parallel_residual`, the default, both halves read the same stream, each through its own norm.
//! Source: Black et al. 2022, "GPT-NeoX-20B"; Biderman et al. 2023, "Pythia".
//!
//! An odd number of turning coordinates is rounded up to whole pairs, as in the reference. Without a word about it a quarter of a head turns.

use super::names::{Cut, Groups, Leaf, NONE, Names, OWN, TWICE, part, renamed};
use super::{Defaults, Family, PLAIN, effects, options, rope};
use crate::ModelError;
use crate::description::Description;
use crate::folder::Configuration;
use crate::variation::{Activation, Biases, Neuron, Norm, Positions};

/// Queries, keys and values are rows of each head of one tensor.
pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neox",
    architecture: "GPTNeoXForCausalLM",
    defaults: Defaults { norm_epsilon: 1e-5, ..PLAIN.defaults },
    names: Names {
        base: "gpt_neox.",
        blocks: "gpt_neox.layers.",
        tables: &TABLES,
        leaves: &LEAVES,
        ignored: &[".attention.bias", ".attention.masked_bias"],
    },
    epsilon: "layer_norm_eps",
    reads: &[
        "layer_norm_eps",
        "rotary_emb_base",
        "partial_rotary_factor",
        "rotary_pct",
        "use_parallel_residual",
        "attention_bias",
        "hidden_act",
    ],
    fixtures: &["checkpoints/gpt_neox", "checkpoints/gpt_neox_serial"],
    vary,
    ..PLAIN
};

/// Sizes that other families call otherwise.
const TABLES: [(&str, &str); 5] = [
    ("model.embed_tokens.weight", "gpt_neox.embed_in.weight"),
    ("model.norm.weight", "gpt_neox.final_layer_norm.weight"),
    ("model.norm.bias", "gpt_neox.final_layer_norm.bias"),
    // The first name is that of published checkpoints, the second that of the newest library.
    ("lm_head.weight", "embed_out.weight"),
    ("lm_head.weight", "lm_head.weight"),
];

/// The first third of each head's rows.
const QUERY: Cut = Cut::rows(Groups::Heads, NONE, TWICE);
const KEY: Cut = Cut::rows(Groups::Heads, OWN, OWN);
const VALUE: Cut = Cut::rows(Groups::Heads, TWICE, NONE);

const LEAVES: [Leaf; 12] = [
    part("self_attn.q_proj.weight", "attention.query_key_value.weight", QUERY),
    part("self_attn.q_proj.bias", "attention.query_key_value.bias", QUERY),
    part("self_attn.k_proj.weight", "attention.query_key_value.weight", KEY),
    part("self_attn.k_proj.bias", "attention.query_key_value.bias", KEY),
    part("self_attn.v_proj.weight", "attention.query_key_value.weight", VALUE),
    part("self_attn.v_proj.bias", "attention.query_key_value.bias", VALUE),
    renamed("self_attn.o_proj.weight", "attention.dense.weight"),
    renamed("self_attn.o_proj.bias", "attention.dense.bias"),
    renamed("mlp.gate_proj.weight", "mlp.dense_h_to_4h.weight"),
    renamed("mlp.gate_proj.bias", "mlp.dense_h_to_4h.bias"),
    renamed("mlp.down_proj.weight", "mlp.dense_4h_to_h.weight"),
    renamed("mlp.down_proj.bias", "mlp.dense_4h_to_h.bias"),
];

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    description.rope_theta = base(configuration, description.rope_theta)?;
    effects::expect_no_groups(configuration, description.heads)?;
    let share = rope::read(configuration, description.rope_theta)?.share.unwrap_or(0.25);
    let turned = (description.head_dim as f64 * share) as usize;
    let activation = options::activation(configuration, "hidden_act", Activation::Gelu)?;
    let biased = options::flag(configuration, "attention_bias", true)?;
    let whole = turned == description.head_dim;
    let variation = &mut description.variation;
    if let Positions::Rotary(turning) = &mut variation.positions {
        turning.dimensions = (!whole).then_some(turned);
    }
    variation.norm = Norm::Layer;
    variation.parallel = options::flag(configuration, "use_parallel_residual", true)?;
    variation.neuron = Neuron::Plain(activation);
    variation.biases = Biases {
        attention_inputs: biased,
        attention_output: biased,
        feed_forward: true,
        ..Biases::default()
    };
    Ok(())
}

/// The base of the frequencies. Where no table of the turn names it, it is `rotary_emb_base`, and a `rope_theta` beside that or in its
/// place, which the reference implementation does not read, must not say otherwise.
fn base(configuration: &Configuration, theta: f64) -> Result<f64, ModelError> {
    let base = configuration.number_if("rotary_emb_base")?.unwrap_or(PLAIN.defaults.rope_theta);
    let read = configuration.number_if("rope_theta")?;
    let named = |key| configuration.get(key).is_some_and(|parts| parts.get("rope_theta").is_some());
    if named("rope_scaling") || named("rope_parameters") {
        return Ok(theta);
    }
    match read.is_none_or(|read| read == base) {
        true => Ok(base),
        false => Err(configuration.complain(
            "rope_theta",
            theta,
            format!("{base}, as `rotary_emb_base` says, or absent"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_base_has_one_name() {
        let of = |keys| base(&Configuration::of(keys), 7.0);
        assert_eq!(of(json!({})).unwrap(), 10_000.0);
        assert_eq!(of(json!({"rotary_emb_base": 9})).unwrap(), 9.0);
        assert_eq!(of(json!({"rotary_emb_base": 7, "rope_theta": 7.0})).unwrap(), 7.0);
        assert_eq!(of(json!({"rope_theta": 9.0, "rope_parameters": {"rope_theta": 7.0}})).unwrap(), 7.0);
        for keys in [json!({"rope_theta": 7.0}), json!({"rotary_emb_base": 9, "rope_theta": 7.0})] {
            assert!(of(keys).unwrap_err().to_string().contains("`rope_theta` is 7"));
        }
    }
}

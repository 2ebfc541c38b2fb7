//! DeepSeek-V3: latent attention; a sigmoid for each expert, a bias that enters the choice alone, groups worth their two best
//! experts, weights divided by their sum and times a constant.
//!
//! The bias enters `hook_select` and never `hook_weights`. A group is worth the sum of its two best biased scores, unlike in
//! DeepSeek-V2. Source: DeepSeek-AI 2024, "DeepSeek-V3", sections 2.1.1 and 2.1.2; Wang et al. 2024 for the bias.

use super::{Defaults, Family, PLAIN, deepseek, effects, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Groups, Router, Score};
use crate::folder::Configuration;
use crate::variation::Pairs;

/// The blocks that predict further tokens, which files hold after the last, are not part of the model.
pub(super) const FAMILY: Family = Family {
    model_type: "deepseek_v3",
    architecture: "DeepseekV3ForCausalLM",
    defaults: Defaults { max_positions: 4096, ..PLAIN.defaults },
    names: deepseek::NAMES,
    reads: &[
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "attention_bias",
        "hidden_act",
        "n_routed_experts",
        "num_experts",
        "num_local_experts",
        "moe_intermediate_size",
        "n_shared_experts",
        "num_experts_per_tok",
        "first_k_dense_replace",
        "routed_scaling_factor",
        "n_group",
        "topk_group",
        "topk_method",
        "scoring_func",
        "norm_topk_prob",
        "rope_interleave",
        "num_nextn_predict_layers",
    ],
    fixtures: &["checkpoints/deepseek_v3"],
    routed: true,
    feed_forward,
    vary,
    selection_bias: true,
    ..PLAIN
};

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    deepseek::expect_score(configuration, "sigmoid")?;
    effects::expect(configuration, "topk_method", "`noaux_tc`, the only one of this family", |value| {
        value.as_str() == Some("noaux_tc")
    })?;
    let count = configuration.size_if("n_group")?.unwrap_or(8);
    effects::expect(configuration, "n_group", "1 or more", |value| value.as_u64() != Some(0))?;
    let chosen = configuration.size_if("topk_group")?.unwrap_or(4);
    // One group is no choice, and may have fewer experts than a group is judged by.
    let groups = (count > 1).then_some(Groups { count, chosen, best: 2 });
    let router = Router {
        score: Score::Sigmoid,
        groups,
        scale: options::number(configuration, "routed_scaling_factor", 2.5)?,
        ..Router::learned(options::flag(configuration, "norm_topk_prob", true)?)
    };
    deepseek::feed_forward(configuration, layers, 3, router)
}

/// Blocks behind the last that predict further tokens; one where nothing is said, as in the published model.
pub(super) fn prediction_blocks(configuration: &Configuration) -> Result<usize, ModelError> {
    Ok(configuration.size_if("num_nextn_predict_layers")?.unwrap_or(1))
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    prediction_blocks(configuration)?;
    let pairs = match options::flag(configuration, "rope_interleave", true)? {
        true => Pairs::Neighbours,
        false => Pairs::Halves,
    };
    deepseek::vary(configuration, description, pairs)?;
    // The reference turns as many coordinates as this key says, where others go by `qk_rope_head_dim`.
    let turned = description.variation.attention.latent.as_ref().map(|latent| latent.turned_dim as u64);
    let wanted = "the number of `qk_rope_head_dim`, or absent: implementations disagree about another";
    effects::expect(configuration, "head_dim", wanted, |value| value.as_u64() == turned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, from_slice, json};

    use super::*;

    #[test]
    fn heads_that_turn_by_another_number_are_refused_by_name() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints");
        let file = fixtures.join("deepseek_v3/config.json");
        let keys: Value = from_slice(&std::fs::read(file).unwrap()).unwrap();
        let read = |head_dim: Value| {
            let mut keys = keys.clone();
            keys["head_dim"] = head_dim;
            crate::families::read(&Configuration::of(keys)).map(drop)
        };
        assert!(read(Value::Null).is_ok() && read(keys["qk_rope_head_dim"].clone()).is_ok());
        assert!(read(json!(2)).unwrap_err().to_string().contains("`head_dim`"));
    }
}

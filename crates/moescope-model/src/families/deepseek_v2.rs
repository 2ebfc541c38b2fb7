//! DeepSeek-V2: latent attention; softmax over all experts, the best chosen, of the best groups or of all, weights times a constant.
//!
//! Weights are never divided by their sum. Group-limited choice takes the
//! groups with the best single expert; others are minus infinity in `hook_select`.
//! Source: DeepSeek-AI 2024, "DeepSeek-V2", sections 2.1 and 2.2.

use super::{Defaults, Family, PLAIN, deepseek, effects, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Groups, Router};
use crate::folder::Configuration;
use crate::variation::Pairs;

/// Weights are never divided by their sum: `norm_topk_prob` is false in every checkpoint of the family that was published. True is
/// refused, since the reference implementation does not read it and others do.
pub(super) const FAMILY: Family = Family {
    model_type: "deepseek_v2",
    architecture: "DeepseekV2ForCausalLM",
    defaults: Defaults { ..PLAIN.defaults },
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
        "mlp_bias",
    ],
    fixtures: &["checkpoints/deepseek_v2", "checkpoints/deepseek_v2_greedy"],
    routed: true,
    feed_forward,
    vary,
    ..PLAIN
};

fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let groups = match configuration.text_if("topk_method")?.unwrap_or("greedy") {
        "greedy" => None,
        "group_limited_greedy" => Some(Groups {
            count: configuration.size("n_group")?,
            chosen: configuration.size("topk_group")?,
            best: 1,
        }),
        other => {
            let wanted = "`greedy` or `group_limited_greedy`";
            return Err(configuration.complain("topk_method", other, wanted));
        }
    };
    deepseek::expect_score(configuration, "softmax")?;
    effects::expect(
        configuration,
        "norm_topk_prob",
        "false: implementations disagree about true",
        |value| value.as_bool() == Some(false),
    )?;
    let scale = options::number(configuration, "routed_scaling_factor", 1.0)?;
    deepseek::feed_forward(configuration, layers, 0, Router { groups, scale, ..Router::learned(false) })
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    deepseek::vary(configuration, description, Pairs::Neighbours)?;
    description.variation.biases.feed_forward = configuration.flag("mlp_bias")?;
    Ok(())
}

//! DeepSeek-V2: latent attention; softmax over all experts, the best chosen, of the best groups or of all, weights times a constant.
//!
//! `norm_topk_prob` has no effect here, as in the reference: weights are never divided by their sum. Group-limited choice takes the
//! groups with the best single expert; others are minus infinity in `hook_select`.
//! Source: DeepSeek-AI 2024, "DeepSeek-V2", sections 2.1 and 2.2.

use super::{Defaults, Family, PLAIN, deepseek, options};
use crate::ModelError;
use crate::description::{Description, FeedForward, Groups, Router};
use crate::folder::Configuration;
use crate::variation::Pairs;

/// Weights are never divided by their sum: the reference implementation does not read `norm_topk_prob`, which is false in every
/// checkpoint of the family that was published.
pub(super) const FAMILY: Family = Family {
    model_type: "deepseek_v2",
    architecture: "DeepseekV2ForCausalLM",
    defaults: Defaults { ..PLAIN.defaults },
    names: deepseek::NAMES,
    honours: &deepseek::HONOURS,
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
    let scale = options::number(configuration, "routed_scaling_factor", 1.0)?;
    deepseek::feed_forward(configuration, layers, 0, Router { groups, scale, ..Router::learned(false) })
}

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    deepseek::vary(configuration, description, Pairs::Neighbours)?;
    description.variation.biases.feed_forward = configuration.flag("mlp_bias")?;
    Ok(())
}

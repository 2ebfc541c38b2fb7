//! OLMoE: softmax over all experts, the best chosen, weights as scored; one norm over all query heads and one over all key heads.

use super::{Defaults, Family, PROJECTIONS, QkNorm};
use crate::ModelError;
use crate::description::{FeedForward, Routed, Router};
use crate::folder::Configuration;

/// Of these, `intermediate_size` is the width of one expert: there are no dense layers.
pub(super) const FAMILY: Family = Family {
    model_type: "olmoe",
    architecture: "OlmoeForCausalLM",
    defaults: Defaults {
        norm_epsilon: 1e-5,
        rope_theta: 10_000.0,
        key_value_heads: None,
        head_dim: None,
        max_positions: 4096,
    },
    qk_norm: QkNorm::Wide,
    experts: PROJECTIONS,
    feed_forward,
};

/// Every layer is routed; `norm_topk_prob`, false when absent, says whether weights are divided by their sum.
fn feed_forward(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    let routed = Routed {
        experts: configuration.size_of(&["num_experts", "num_local_experts"])?,
        expert_width: configuration.size("intermediate_size")?,
        per_token: configuration.size("num_experts_per_tok")?,
        router: Router::learned(configuration.flag("norm_topk_prob")?),
    };
    Ok(vec![FeedForward::Routed(routed); layers])
}

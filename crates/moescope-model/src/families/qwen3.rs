//! Qwen3: dense, with a norm of each query and key head. Our own dense models are of this family.

use serde_json::{Map, Value, json};

use super::{Defaults, Family, PROJECTIONS, QkNorm, uniform_dense};
use crate::description::{Description, FeedForward};

/// A head has 128 entries unless the checkpoint says otherwise, whatever the width of the model.
pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    defaults: Defaults {
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        key_value_heads: Some(32),
        head_dim: Some(128),
        max_positions: 32_768,
    },
    qk_norm: QkNorm::Heads,
    experts: PROJECTIONS,
    feed_forward: uniform_dense,
};

/// The family's own keys, if it can express the model: every layer dense and of one width.
pub(super) fn express(description: &Description) -> Option<Map<String, Value>> {
    let first = description.feed_forward.first()?;
    let FeedForward::Dense { width } = first else { return None };
    if description.feed_forward.iter().any(|layer| layer != first) {
        return None;
    }
    let mut keys = Map::new();
    keys.insert("intermediate_size".into(), json!(width));
    keys.insert("max_window_layers".into(), json!(description.layers()));
    Some(keys)
}

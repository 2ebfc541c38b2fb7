//! Qwen3: dense, with a norm of each query and key head. Our own dense models are of this family.
//!
//! `head_dim` is 128 where the configuration does not say it. Source: Yang et al. 2025, "Qwen3 Technical Report".
//!
//! The norm comes before the turn, so `hook_q` and `hook_k` are after both. `attention_bias` puts a bias on the output, too.

use serde_json::{Map, Value, json};

use super::{Defaults, Family, PLAIN, QkNorm, options, qwen2};
use crate::description::{Description, FeedForward};

/// A head has 128 entries unless the checkpoint says otherwise, whatever the width of the model.
pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    defaults: Defaults {
        key_value_heads: Some(32),
        head_dim: Some(128),
        max_positions: 32_768,
        ..PLAIN.defaults
    },
    qk_norm: QkNorm::Heads,
    reads: &[
        "attention_bias",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
        "hidden_act",
    ],
    fixtures: &["checkpoints/qwen3", "gguf/qwen3.gguf", "transformers_opens/dense"],
    vary: |configuration, description| {
        qwen2::late_windows(configuration, description)?;
        description.variation.biases = options::attention_bias(configuration, false)?;
        Ok(())
    },
    ..PLAIN
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

//! What configurations call the sizes of a description, so that a complaint names what the user can look up.
//!
//! Families spell sizes in several ways, and reading has forgotten which one a file has by the time that sizes are held against each
//! other. The first spelling that the file has is taken; a size that follows from others, such as that of a committee, has none.

use crate::ModelError;
use crate::folder::Configuration;

/// Sizes of a description, with the keys that may stand for each.
const SPELLINGS: [(&str, &[&str]); 13] = [
    ("vocab", &["vocab_size"]),
    ("d_model", &["hidden_size", "n_embd"]),
    ("number of layers", &["num_hidden_layers", "n_layer"]),
    ("heads", &["num_attention_heads", "n_head"]),
    ("key_value_heads", &["num_key_value_heads"]),
    ("max_positions", &["max_position_embeddings", "n_positions"]),
    ("norm_epsilon", &["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"]),
    ("experts", &["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]),
    ("per_token", &["num_experts_per_tok", "experts_per_token", "moe_top_k"]),
    ("expert_width", &["moe_intermediate_size", "ffn_hidden_size", "intermediate_size"]),
    ("width", &["intermediate_size", "n_inner", "ffn_hidden_size"]),
    ("groups", &["n_group"]),
    ("chosen groups", &["topk_group"]),
];

/// The error about a size with the key that it was read from, where the file has one.
pub(super) fn in_file(error: ModelError, configuration: &Configuration) -> ModelError {
    let ModelError::Description { what, found, wanted } = &error else { return error };
    let (place, size) = what.rsplit_once(": ").unwrap_or(("", what));
    let keys = SPELLINGS.iter().find(|(own, _)| *own == size).map_or(&[][..], |(_, keys)| keys);
    match keys.iter().find(|key| configuration.get(key).is_some()) {
        Some(key) => {
            let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
            configuration.complain(key, format!("{found}{place}"), wanted.clone())
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_size_is_named_as_in_the_file() {
        let configuration = Configuration::of(json!({"moe_top_k": 9, "n_embd": 7}));
        let said =
            |what: &str| in_file(ModelError::description(what, 9, "1 to 6"), &configuration).to_string();
        assert_eq!(
            said("layer 3: per_token"),
            "config.json: the key `moe_top_k` is 9 (layer 3), wanted 1 to 6"
        );
        assert!(said("d_model").contains("`n_embd` is 9, wanted"));
        assert!(said("qk_norm").contains("qk_norm is 9"), "a size that no key stands for");
    }
}

//! Configuration keys with effects that we do not reproduce: they must stand at the value that has none.

use serde_json::Value;

use crate::ModelError;
use crate::folder::Configuration;

/// Keys that must be false, zero, empty or absent.
const OFF: [&str; 13] = [
    "use_sliding_window",
    "attention_bias",
    "mlp_bias",
    "qkv_bias",
    "clip_qkv",
    "quantization_config",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "n_shared_experts",
    "num_shared_experts",
    "shared_expert_intermediate_size",
    "attention_sinks",
    "add_cross_attention",
];

/// Keys that must be one or absent.
const ONE: [&str; 8] = [
    "partial_rotary_factor",
    "rotary_pct",
    "routed_scaling_factor",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "logit_scale",
    "n_group",
];

/// Refuses every key that would change the result and that we do not honour.
///
/// The list holds the effects that are known to us. A key that nobody here has heard of passes, so a checkpoint of a
/// known family with a new option may still differ; tests against the reference implementation are what shows that.
pub(crate) fn refuse(configuration: &Configuration) -> Result<(), ModelError> {
    for key in OFF {
        expect(configuration, key, "false or absent: this effect is not reproduced", is_off)?;
    }
    for key in ONE {
        expect(configuration, key, "1 or absent: this effect is not reproduced", |v| {
            v.as_f64() == Some(1.0)
        })?;
    }
    expect(configuration, "hidden_act", "`silu`", |v| matches!(v.as_str(), Some("silu" | "swish")))?;
    expect(configuration, "layer_types", "`full_attention` in every layer", |v| {
        v.as_array().is_some_and(|all| all.iter().all(|kind| kind.as_str() == Some("full_attention")))
    })?;
    sliding_window(configuration)
}

/// Base of the rotary frequencies, from either way of writing it.
pub(crate) fn rope_theta(configuration: &Configuration, default: f64) -> Result<f64, ModelError> {
    let old = configuration.number_if("rope_theta")?;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = configuration.get(key) else { continue };
        let Value::Object(rope) = value else {
            return Err(configuration.complain(key, value, "an object or null"));
        };
        for (part, value) in rope {
            let plain = match part.as_str() {
                "rope_type" | "type" => value.as_str() == Some("default"),
                "rope_theta" => value.is_number(),
                "partial_rotary_factor" => value.as_f64() == Some(1.0),
                _ => value.is_null(),
            };
            if !plain {
                let wanted = "plain rotary embedding (`rope_type` default)";
                return Err(configuration.complain(&format!("{key}.{part}"), value, wanted));
            }
        }
    }
    let new = configuration.get("rope_parameters").and_then(|rope| rope.get("rope_theta"));
    Ok(new.and_then(Value::as_f64).or(old).unwrap_or(default))
}

/// A window has no effect when it is switched off or as long as the longest sequence.
fn sliding_window(configuration: &Configuration) -> Result<(), ModelError> {
    let Some(window) = configuration.size_if("sliding_window")? else { return Ok(()) };
    let switched_off = configuration.get("use_sliding_window").is_some();
    let longest = configuration.size_if("max_position_embeddings")?;
    if switched_off || longest.is_some_and(|longest| longest <= window) {
        return Ok(());
    }
    Err(configuration.complain("sliding_window", window, "null: attention to a window is not reproduced"))
}

/// Refuses a key that is there and not `fine`; an absent key passes.
fn expect(
    configuration: &Configuration,
    key: &str,
    wanted: &str,
    fine: impl Fn(&Value) -> bool,
) -> Result<(), ModelError> {
    match configuration.get(key) {
        Some(value) if !fine(value) => Err(configuration.complain(key, value, wanted)),
        _ => Ok(()),
    }
}

/// Whether a value switches its effect off: false, zero or an empty list.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_effect_that_we_lack_is_an_error_that_names_the_key() {
        let cases = [
            json!({"use_sliding_window": true}),
            json!({"attention_bias": true}),
            json!({"hidden_act": "gelu"}),
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            json!({"sliding_window": 16, "max_position_embeddings": 128}),
            json!({"n_shared_experts": 1}),
        ];
        for case in cases {
            let key = case.as_object().unwrap().keys().next().unwrap().clone();
            let named = if case.get("sliding_window").is_some() { "sliding_window" } else { key.as_str() };
            let error = refuse(&Configuration::of(case)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{named}`")), "{error}");
        }
        let fine =
            json!({"attention_bias": false, "sliding_window": null, "clip_qkv": null, "hidden_act": "silu"});
        refuse(&Configuration::of(fine)).unwrap();
        let off = json!({"use_sliding_window": false, "sliding_window": 16, "max_position_embeddings": 128});
        refuse(&Configuration::of(off)).unwrap();
    }

    #[test]
    fn rope_is_read_both_ways_and_scaling_is_refused() {
        let theta = |keys| rope_theta(&Configuration::of(keys), 5.0);
        assert_eq!(theta(json!({})).unwrap(), 5.0);
        assert_eq!(theta(json!({"rope_theta": 7.0, "rope_scaling": null})).unwrap(), 7.0);
        let new = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}});
        assert_eq!(theta(new).unwrap(), 9.0);
        let scaled = json!({"rope_scaling": {"type": "yarn", "factor": 4.0}});
        assert!(theta(scaled).unwrap_err().to_string().contains("rope_scaling."));
        let scaled = json!({"rope_parameters": {"rope_type": "llama3", "rope_theta": 9.0}});
        assert!(theta(scaled).unwrap_err().to_string().contains("rope_parameters.rope_type"));
    }
}

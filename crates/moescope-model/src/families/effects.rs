//! Configuration keys with effects that a family does not reproduce: they must stand at the value that has none.

use serde_json::Value;

use crate::ModelError;
use crate::folder::Configuration;

/// Keys that must be false, zero, empty or absent, unless the family reads them.
pub(super) const OFF: [&str; 23] = [
    "use_sliding_window",
    "sliding_window",
    "attention_bias",
    "mlp_bias",
    "qkv_bias",
    "lm_head_bias",
    "clip_qkv",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "n_shared_experts",
    "num_shared_experts",
    "shared_expert_intermediate_size",
    "attention_sinks",
    "add_cross_attention",
    "scale_attn_by_inverse_layer_idx",
    "use_bidirectional_attention",
    "use_qk_norm",
    "qk_layernorm",
    "attention_multiplier",
    "query_pre_attn_scalar",
    "alibi",
    "tie_encoder_decoder",
    "per_layer_config",
];

/// Keys that must be one or absent, unless the family reads them.
pub(super) const ONE: [&str; 10] = [
    "partial_rotary_factor",
    "rotary_pct",
    "routed_scaling_factor",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "logit_scale",
    "n_group",
    "topk_group",
    "moe_layer_freq",
];

/// Keys that must be absent, unless the family reads them: spellings of one family that another might be thought to follow.
pub(super) const ABSENT: [&str; 1] = ["rotary_emb_base"];

/// Refuses every key that would change the result and that the family does not read.
///
/// The list holds the effects that are known to us. A key that nobody here has heard of passes, so a checkpoint of a
/// known family with a new option may still differ; tests against the reference implementation are what shows that.
pub(crate) fn refuse(configuration: &Configuration, reads: &[&str]) -> Result<(), ModelError> {
    let foreign = |key: &&&str| !reads.contains(*key);
    for key in OFF.iter().filter(foreign) {
        expect(configuration, key, "false or absent: this effect is not reproduced", is_off)?;
    }
    for key in ONE.iter().filter(foreign) {
        let one = |value: &Value| value.as_f64() == Some(1.0);
        expect(configuration, key, "1 or absent: this effect is not reproduced", one)?;
    }
    for key in ABSENT.iter().filter(foreign) {
        expect(configuration, key, "absent: this family does not have it", |_| false)?;
    }
    quantisation(configuration)?;
    if !reads.contains(&"is_causal") {
        let causal = |value: &Value| value.as_bool() == Some(true);
        expect(configuration, "is_causal", "true or absent: tokens see those before them alone", causal)?;
    }
    let full = |kind: &Value| kind.as_str() == Some("full_attention");
    if !reads.contains(&"layer_types") {
        expect(configuration, "layer_types", "`full_attention` in every layer", |value| {
            value.as_array().is_some_and(|all| all.iter().all(full))
        })?;
    }
    Ok(())
}

/// Refuses quantised weights of which only the stored numbers would be read, and not what they stand for.
fn quantisation(configuration: &Configuration) -> Result<(), ModelError> {
    expect(configuration, "quantization_config", "`quant_method` `mxfp4` or `fp8`, or null", |value| {
        matches!(value.get("quant_method").and_then(Value::as_str), Some("mxfp4" | "fp8"))
    })
}

/// Refuses a key that is there and not `fine`; an absent key passes.
pub(crate) fn expect(
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

/// Refuses another number of heads for keys and values than for queries, where the family has no such thing.
pub(crate) fn expect_no_groups(configuration: &Configuration, heads: usize) -> Result<(), ModelError> {
    let wanted = format!("{heads}, the number of heads, or absent: this family shares no keys and values");
    expect(configuration, "num_key_value_heads", &wanted, |value| value.as_u64() == Some(heads as u64))
}

/// Whether a value switches its effect off: false, zero or an empty list.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_family_without_groups_of_heads_takes_no_other_number_of_them() {
        let given = |heads: Value| Configuration::of(json!({"num_key_value_heads": heads}));
        for fine in [json!(4), Value::Null] {
            expect_no_groups(&given(fine), 4).unwrap();
        }
        for other in [json!(2), json!(0), json!("4")] {
            let error = expect_no_groups(&given(other), 4).unwrap_err().to_string();
            assert!(error.contains("`num_key_value_heads`") && error.contains("wanted 4"), "{error}");
        }
    }

    #[test]
    fn an_effect_that_a_family_lacks_is_an_error_that_names_the_key() {
        let cases = [
            json!({"use_sliding_window": true}),
            json!({"attention_bias": true}),
            json!({"is_causal": false}),
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            json!({"sliding_window": 16}),
            json!({"n_shared_experts": 1}),
            json!({"logits_scaling": 2.0}),
            json!({"rotary_emb_base": 500}),
            json!({"per_layer_config": {"1": {"num_experts_per_tok": 1}}}),
        ];
        let quantised = Configuration::of(json!({"quantization_config": {"quant_method": "gptq"}}));
        assert!(refuse(&quantised, &[]).unwrap_err().to_string().contains("quantization_config"));
        for case in cases {
            let key = case.as_object().unwrap().keys().next().unwrap().clone();
            let error = refuse(&Configuration::of(case.clone()), &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
            refuse(&Configuration::of(case), &[key.as_str()]).unwrap();
        }
        let fine = json!({"attention_bias": false, "sliding_window": null, "clip_qkv": null, "n_group": 1,
                          "per_layer_config": {}});
        refuse(&Configuration::of(fine), &[]).unwrap();
    }
}

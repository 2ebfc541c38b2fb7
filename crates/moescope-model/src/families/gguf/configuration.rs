//! The metadata of a GGUF file as the keys of `config.json`.

use std::path::Path;

use moescope_weights::{Metadata, MetadataValue, Weights};
use serde_json::{Map, Value, json};

use super::Architecture;
use crate::ModelError;
use crate::families::rope;

/// Keys that say what the model computes and that are read here, without the name of the architecture.
const READ: [&str; 24] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_weights_norm",
    "expert_weights_scale",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.clamp_kqv",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
];

/// Keys that change nothing here.
const WITHOUT_EFFECT: [&str; 4] =
    ["rope.scaling.finetuned", "tensor_data_layout", "expert_shared_count", "attention.layer_norm_epsilon"];

/// The keys that a folder of the same model has.
///
/// # Errors
/// [`ModelError::Configuration`] for a key of the architecture that is missing, of another kind, or not known: it may change
/// what the model computes.
pub(super) fn keys(
    architecture: &Architecture,
    metadata: &Metadata,
    weights: &Weights,
) -> Result<Map<String, Value>, ModelError> {
    let source = Source { architecture, metadata, weights };
    source.refuse_unknown()?;
    let mut keys = source.shared()?;
    keys.extend(source.rope()?);
    keys.extend(source.experts()?);
    Ok(keys)
}

/// Where keys come from.
struct Source<'a> {
    architecture: &'a Architecture,
    metadata: &'a Metadata,
    weights: &'a Weights,
}

impl Source<'_> {
    fn path(&self) -> &Path {
        self.weights.path()
    }

    /// The key as the file has it, after the name of the architecture.
    fn named(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    /// An error that names file and key, what was found and what was wanted.
    fn complain(&self, key: &str, found: impl ToString, wanted: &str) -> ModelError {
        let (found, wanted) = (found.to_string(), wanted.to_owned());
        ModelError::Configuration { path: self.path().into(), key: key.into(), found, wanted }
    }

    /// A key through `read`, if it is there.
    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Metadata, &str) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let key = self.named(key);
        match self.metadata.get(&key) {
            None => Ok(None),
            Some(value) => {
                read(self.metadata, &key).map(Some).ok_or_else(|| self.complain(&key, said(value), wanted))
            }
        }
    }

    /// A whole number, if the key is there.
    fn size_if(&self, key: &str) -> Result<Option<u64>, ModelError> {
        self.typed(key, "a whole number", Metadata::unsigned)
    }

    /// A whole number that must be there.
    fn size(&self, key: &str) -> Result<u64, ModelError> {
        self.size_if(key)?.ok_or_else(|| self.complain(&self.named(key), "absent", "a whole number"))
    }

    /// A number; one that was stored in single precision as the shortest decimal that gives it, which is what a folder says.
    fn number_if(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let number = self.typed(key, "a number", Metadata::real)?;
        let shortest = |number: f64| (number as f32).to_string().parse().unwrap_or(number);
        Ok(number.map(|number| if f64::from(number as f32) == number { shortest(number) } else { number }))
    }

    /// Length of an axis of a tensor.
    fn axis(&self, tensor: &str, axis: usize) -> Option<usize> {
        self.weights.get(tensor)?.shape().get(axis).copied()
    }

    /// Refuses keys of the architecture that nobody here reads: one of them may change the result.
    fn refuse_unknown(&self) -> Result<(), ModelError> {
        for (key, value) in self.metadata.iter() {
            let Some(own) = key.strip_prefix(self.architecture.name).and_then(|key| key.strip_prefix('.'))
            else {
                continue;
            };
            let neutral = match own {
                "attention.causal" => self.metadata.flag(key) == Some(true),
                "expert_gating_func" => self.neutral_gating(key),
                "expert_group_count" | "expert_group_used_count" => {
                    self.metadata.unsigned(key).is_some_and(|groups| groups <= 1)
                }
                _ => READ.contains(&own) || WITHOUT_EFFECT.contains(&own),
            };
            if !neutral {
                return Err(self.complain(key, said(value), "absent: this effect is not reproduced"));
            }
        }
        Ok(())
    }

    /// Whether scores are made as the family makes them anyway: softmax over all experts is 1, over the chosen ones 3.
    fn neutral_gating(&self, key: &str) -> bool {
        let own = if self.architecture.family == "gpt_oss" { 3 } else { 1 };
        self.metadata.unsigned(key).is_some_and(|kind| kind == 0 || kind == own)
    }

    /// What every architecture has.
    fn shared(&self) -> Result<Map<String, Value>, ModelError> {
        let (heads, width) = (self.size("attention.head_count")?, self.size("embedding_length")?);
        let head = self.size_if("attention.key_length")?.unwrap_or(width.checked_div(heads).unwrap_or(0));
        let value = self.size_if("attention.value_length")?.unwrap_or(head);
        if value != head {
            let wanted = format!("{head}, the length of a key");
            return Err(self.complain(&self.named("attention.value_length"), value, &wanted));
        }
        let vocabulary = self.axis("token_embd.weight", 0).map(|vocabulary| vocabulary as u64);
        let mut keys = object(json!({
            "model_type": self.architecture.family,
            "vocab_size": vocabulary.map_or_else(|| self.size("vocab_size"), Ok)?,
            "hidden_size": width,
            "num_hidden_layers": self.size("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.size_if("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head,
            "max_position_embeddings": self.size("context_length")?,
            "rms_norm_eps": self.number_if("attention.layer_norm_rms_epsilon")?,
            "rope_theta": self.number_if("rope.freq_base")?.unwrap_or(10_000.0),
            "tie_word_embeddings": self.weights.get("output.weight").is_none(),
            "intermediate_size": self.size_if("feed_forward_length")?,
            "clip_qkv": self.number_if("attention.clamp_kqv")?,
            "sliding_window": self.size_if("attention.sliding_window")?,
        }));
        let turned = self.size_if("rope.dimension_count")?.unwrap_or(head);
        if turned != head {
            keys.insert("partial_rotary_factor".into(), json!(turned as f64 / head as f64));
        }
        // Qwen2 has biases always, so its folders have no key for them.
        let biased = self.weights.get("blk.0.attn_q.bias").is_some();
        if biased && !self.architecture.family.starts_with("qwen2") {
            keys.insert("attention_bias".into(), json!(true));
        }
        Ok(keys)
    }

    /// How rotary frequencies are scaled, if they are.
    fn rope(&self) -> Result<Map<String, Value>, ModelError> {
        let kind =
            self.typed("rope.scaling.type", "a text", |metadata, key| metadata.text(key).map(str::to_owned))?;
        let mut scaling = match kind.as_deref() {
            None | Some("none") => match self.weights.get("rope_freqs.weight") {
                None => return Ok(Map::new()),
                Some(factors) => self.rope_of_llama3(&factors.read()?)?,
            },
            Some(kind) => {
                let factor = self.number_if("rope.scaling.factor")?;
                // llama.cpp multiplies it with the factor that follows from the length, where a folder's key stands for both.
                let lengthened =
                    if kind == "yarn" { rope::magnitude(factor.unwrap_or(1.0), 1.0) } else { 1.0 };
                let scores = self.number_if("rope.scaling.attn_factor")?;
                object(json!({
                    "rope_type": kind,
                    "factor": factor,
                    "original_max_position_embeddings": self.size_if("rope.scaling.original_context_length")?,
                    "attention_factor": scores.map(|scores| scores * lengthened),
                }))
            }
        };
        scaling.retain(|_, value| !value.is_null());
        // The library that writes these files does not round the bounds of what is interpolated.
        if self.architecture.family == "gpt_oss" {
            scaling.insert("truncate".into(), json!(false));
        }
        Ok(object(json!({ "rope_scaling": scaling })))
    }

    /// Llama 3 stores the factor of each frequency and not what it comes from. All its models have the same bounds, so the
    /// largest factor tells all; should the others then not agree, the scaling is not known.
    fn rope_of_llama3(&self, factors: &[f32]) -> Result<Map<String, Value>, ModelError> {
        let (low, high, original) = (1.0, 4.0, 8192.0);
        let base = self.number_if("rope.freq_base")?.unwrap_or(10_000.0);
        let factor = f64::from(factors.iter().copied().fold(0.0, f32::max));
        let wanted = |place: usize| {
            let turns = original * base.powf(-(place as f64) / factors.len() as f64) / std::f64::consts::TAU;
            let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        let agrees =
            |(place, found): (usize, &f32)| (f64::from(*found) - wanted(place)).abs() <= 1e-3 * wanted(place);
        if !factors.iter().enumerate().all(agrees) {
            let wanted = "the factors of Llama 3 (bounds 1 and 4, 8192 positions)";
            return Err(self.complain("rope_freqs.weight", "other factors", wanted));
        }
        Ok(object(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })))
    }

    /// What a model with experts has besides.
    fn experts(&self) -> Result<Map<String, Value>, ModelError> {
        let Some(experts) = self.size_if("expert_count")?.filter(|experts| *experts > 0) else {
            return Ok(Map::new());
        };
        let layers = self.size("block_count")?;
        let routed = |layer: &u64| self.weights.get(&format!("blk.{layer}.ffn_gate_inp.weight")).is_some();
        // No more blocks than tensors are asked for, whatever the header claims.
        let asked = layers.min(self.weights.names().count() as u64);
        let first = (0..asked).find(routed).unwrap_or(0);
        let width = self.axis(&format!("blk.{first}.ffn_gate_exps.weight"), 1);
        let mut keys = object(json!({
            "num_local_experts": experts,
            "num_experts_per_tok": self.size("expert_used_count")?,
        }));
        if let Some(scale) = self.number_if("expert_weights_scale")?.filter(|scale| *scale != 0.0) {
            keys.insert("routed_scaling_factor".into(), json!(scale));
        }
        let norm = self.typed("expert_weights_norm", "true or false", Metadata::flag)?;
        if !self.architecture.family.starts_with("qwen") {
            // One width for all, and weights always of sum one.
            let width = width.map(|width| json!(width));
            keys.extend(width.map(|width| ("intermediate_size".to_owned(), width)));
            return Ok(keys);
        }
        let dense: Vec<u64> = (0..asked).filter(|layer| !routed(layer)).collect();
        keys.remove("num_local_experts");
        keys.extend(object(json!({
            "num_experts": experts,
            "moe_intermediate_size": width,
            "shared_expert_intermediate_size": self.axis(&format!("blk.{first}.ffn_gate_shexp.weight"), 0),
            "norm_topk_prob": norm.unwrap_or(self.architecture.renormalise),
            "decoder_sparse_step": 1,
            "mlp_only_layers": dense,
        })));
        Ok(keys)
    }
}

/// The map of a value that was written as one.
fn object(value: Value) -> Map<String, Value> {
    let Value::Object(keys) = value else { unreachable!("written as an object") };
    keys
}

/// A value for a message; lists would fill the screen.
fn said(value: &MetadataValue) -> String {
    match value {
        MetadataValue::Unsigned(number) => number.to_string(),
        MetadataValue::Signed(number) => number.to_string(),
        MetadataValue::Real(number) => number.to_string(),
        MetadataValue::Flag(flag) => flag.to_string(),
        MetadataValue::Text(text) => format!("`{text}`"),
        _ => "a list".into(),
    }
}

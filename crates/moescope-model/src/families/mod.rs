//! Families of checkpoints: how their configuration reads and what their tensors are called. There is no arithmetic here.

mod effects;
pub(crate) mod gguf;
mod llama;
mod mistral;
mod mixtral;
mod moescope;
mod olmoe;
mod qwen3;
mod qwen3_moe;

use serde_json::{Map, Value, json};

use crate::ModelError;
use crate::description::{Description, FeedForward, check_layers};
use crate::folder::Configuration;
use crate::model::Model;

/// One family.
///
/// A new family is a constant of this kind, in a file of its own, with tests against the reference implementation.
pub(crate) struct Family {
    /// As `config.json` says.
    pub(crate) model_type: &'static str,
    /// Class name of the reference implementation.
    pub(crate) architecture: &'static str,
    /// Values of keys that a checkpoint leaves out.
    pub(crate) defaults: Defaults,
    /// Fixed by the family, not by a key, but for our own.
    pub(crate) qk_norm: QkNorm,
    /// Of no meaning in a dense family.
    pub(crate) experts: ExpertNames,
    /// The feed-forward layer of each block.
    pub(crate) feed_forward: fn(&Configuration, usize) -> Result<Vec<FeedForward>, ModelError>,
}

/// What a missing key means.
pub(crate) struct Defaults {
    /// For `rms_norm_eps`.
    pub(crate) norm_epsilon: f64,
    /// For `rope_theta`, in either place where it may stand.
    pub(crate) rope_theta: f64,
    /// `None`: as many as query heads.
    pub(crate) key_value_heads: Option<usize>,
    /// `None`: `hidden_size / num_attention_heads`.
    pub(crate) head_dim: Option<usize>,
    /// For `max_position_embeddings`.
    pub(crate) max_positions: usize,
}

/// Whether queries and keys are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QkNorm {
    /// Not at all; the model has no such weights.
    None,
    /// Each head for itself.
    Heads,
    /// All heads of a token together.
    Wide,
    /// As the key `qk_norm` says.
    Configured,
}

/// What the tensors of one expert are called, `model.layers.L.MODULE.experts.E.LEAF.weight`.
pub(crate) struct ExpertNames {
    /// Where a block keeps its experts and its router.
    pub(crate) module: &'static str,
    /// The matrix whose product goes through `silu`, `[width, model]`.
    pub(crate) gate: &'static str,
    /// The matrix whose product is gated, `[width, model]`.
    pub(crate) up: &'static str,
    /// The matrix that writes into the residual stream, `[model, width]`.
    pub(crate) down: &'static str,
}

/// The names of most families.
const PROJECTIONS: ExpertNames =
    ExpertNames { module: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };

/// All families, in the order in which they are listed to the user.
const FAMILIES: [&Family; 7] = [
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &olmoe::FAMILY,
    &moescope::FAMILY,
];

/// A configuration, understood.
pub(crate) struct Reading {
    /// Decides what the tensors of the folder are called.
    pub(crate) family: &'static Family,
    /// Checked: its sizes make a model.
    pub(crate) description: Description,
    /// Not part of the description, because only checkpoints of OLMoE's kind have it; it decides the shape of two
    /// norms.
    pub(crate) wide_qk_norm: bool,
}

/// Names of all families that can be read.
pub fn supported_families() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.model_type).collect()
}

/// Understands a configuration, whichever family it is of.
///
/// # Errors
/// [`ModelError::UnknownFamily`], [`ModelError::Configuration`] for a key that is missing, mistyped or of an effect
/// that is not reproduced, and [`ModelError::Description`] for sizes that make no model.
pub(crate) fn read(configuration: &Configuration) -> Result<Reading, ModelError> {
    let found = configuration.text_if("model_type")?.unwrap_or("absent");
    let Some(family) = FAMILIES.iter().find(|family| family.model_type == found) else {
        return Err(ModelError::UnknownFamily {
            path: configuration.path().into(),
            found: found.into(),
            known: supported_families(),
        });
    };
    effects::refuse(configuration)?;
    let qk_norm = match family.qk_norm {
        QkNorm::Configured => moescope::qk_norm(configuration)?,
        fixed => fixed,
    };
    let description = description(configuration, family, qk_norm)?;
    description.check()?;
    Ok(Reading { family, description, wide_qk_norm: qk_norm == QkNorm::Wide })
}

/// The sizes that all families spell alike; the feed-forward layers are the family's own.
fn description(
    configuration: &Configuration,
    family: &Family,
    qk_norm: QkNorm,
) -> Result<Description, ModelError> {
    let defaults = &family.defaults;
    let heads = configuration.size("num_attention_heads")?;
    let d_model = configuration.size("hidden_size")?;
    let head_dim = match (configuration.size_if("head_dim")?, defaults.head_dim) {
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => d_model.checked_div(heads).unwrap_or(0),
    };
    let layers = configuration.size("num_hidden_layers")?;
    check_layers(layers)?;
    Ok(Description {
        vocab: configuration.size("vocab_size")?,
        d_model,
        heads,
        key_value_heads: configuration
            .size_if("num_key_value_heads")?
            .or(defaults.key_value_heads)
            .unwrap_or(heads),
        head_dim,
        rope_theta: effects::rope_theta(configuration, defaults.rope_theta)?,
        norm_epsilon: configuration.number_if("rms_norm_eps")?.unwrap_or(defaults.norm_epsilon),
        max_positions: configuration.size_if("max_position_embeddings")?.unwrap_or(defaults.max_positions),
        tied_embeddings: configuration.flag("tie_word_embeddings")?,
        qk_norm: qk_norm != QkNorm::None,
        feed_forward: (family.feed_forward)(configuration, layers)?,
    })
}

/// The family in which a model is written and its configuration: `qwen3` or `qwen3_moe` where they can express it.
pub(crate) fn write(model: &Model) -> (&'static Family, Map<String, Value>) {
    let description = model.description();
    let biased = (0..description.layers()).any(|layer| model.selection_bias(layer).is_some());
    let plain = description.qk_norm && !model.layout().wide_qk_norm && !biased;
    let (family, own) = if let Some(own) = qwen3::express(description).filter(|_| plain) {
        (&qwen3::FAMILY, own)
    } else if let Some(own) = qwen3_moe::express(description).filter(|_| plain) {
        (&qwen3_moe::FAMILY, own)
    } else {
        (&moescope::FAMILY, moescope::express(description, model.layout().wide_qk_norm))
    };
    let mut keys = shared_keys(description);
    keys.insert("architectures".into(), json!([family.architecture]));
    keys.insert("model_type".into(), json!(family.model_type));
    keys.extend(own);
    (family, keys)
}

/// What every configuration says, in the spellings of transformers 4 and 5.
fn shared_keys(description: &Description) -> Map<String, Value> {
    let keys = json!({
        "vocab_size": description.vocab,
        "hidden_size": description.d_model,
        "num_hidden_layers": description.layers(),
        "num_attention_heads": description.heads,
        "num_key_value_heads": description.key_value_heads,
        "head_dim": description.head_dim,
        "max_position_embeddings": description.max_positions,
        "rms_norm_eps": description.norm_epsilon,
        "rope_theta": description.rope_theta,
        "rope_scaling": null,
        "rope_parameters": {"rope_type": "default", "rope_theta": description.rope_theta},
        "tie_word_embeddings": description.tied_embeddings,
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "use_sliding_window": false,
        "sliding_window": null,
        "initializer_range": 0.02,
        "bos_token_id": null,
        "eos_token_id": null,
        "pad_token_id": null,
        "use_cache": true,
        "torch_dtype": "float32",
        "dtype": "float32",
    });
    let Value::Object(keys) = keys else { unreachable!("written as an object above") };
    keys
}

/// The width of every layer, if all are dense and alike.
fn uniform_dense(configuration: &Configuration, layers: usize) -> Result<Vec<FeedForward>, ModelError> {
    Ok(vec![FeedForward::Dense { width: configuration.size("intermediate_size")? }; layers])
}

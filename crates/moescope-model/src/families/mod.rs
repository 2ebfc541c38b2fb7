//! Families of checkpoints: how their configuration reads and what their tensors are called. There is no arithmetic here.

mod deepseek;
mod deepseek_v2;
mod deepseek_v3;
mod effects;
mod gemma2;
pub(crate) mod gguf;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granitemoe;
mod jetmoe;
mod llama;
mod mistral;
mod mixtral;
mod moescope;
mod names;
mod olmo2;
mod olmoe;
mod options;
mod phimoe;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod rope;
mod spelling;
mod support;

use serde_json::{Map, Value, json};

use crate::ModelError;
use crate::description::{Description, FeedForward, check_layers};
use crate::folder::Configuration;
use crate::model::Model;
use crate::variation::{Positions, Turning, Variation};

pub(crate) use names::{Cut, Groups, Names};
pub use support::{COMMON_KEYS, FamilySupport, family_support, guarded_keys};

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
    /// What all other tensors are called.
    pub(crate) names: Names,
    /// Keys that tell the number of query heads, the first that is there.
    pub(crate) heads: &'static [&'static str],
    /// The key of the number that norms add.
    pub(crate) epsilon: &'static str,
    /// Keys that the family reads beside those of all families; one of a known effect need then not stand at the value that has
    /// none.
    pub(crate) reads: &'static [&'static str],
    /// Folders and files below `fixtures` that hold the family against the reference implementation.
    pub(crate) fixtures: &'static [&'static str],
    /// Whether a layer may have experts.
    pub(crate) routed: bool,
    /// The feed-forward layer of each block.
    pub(crate) feed_forward: fn(&Configuration, usize) -> Result<Vec<FeedForward>, ModelError>,
    /// How the model departs from the plain block.
    pub(crate) vary: fn(&Configuration, &mut Description) -> Result<(), ModelError>,
    /// Whether files hold selection biases, which they then must.
    pub(crate) selection_bias: bool,
    /// Whether files hold the scales of norms less one.
    pub(crate) norms_less_one: bool,
}

/// What most families have; a family says what it has instead.
const PLAIN: Family = Family {
    model_type: "",
    architecture: "",
    defaults: Defaults {
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        key_value_heads: None,
        head_dim: None,
        max_positions: 2048,
        tied_embeddings: false,
    },
    qk_norm: QkNorm::None,
    experts: PROJECTIONS,
    names: names::OURS,
    heads: &["num_attention_heads", "n_head"],
    epsilon: "rms_norm_eps",
    reads: &[],
    fixtures: &[],
    routed: false,
    feed_forward: uniform_dense,
    vary: |_, _| Ok(()),
    selection_bias: false,
    norms_less_one: false,
};

/// What a missing key means.
pub(crate) struct Defaults {
    /// For `rms_norm_eps`, or what the family calls it.
    pub(crate) norm_epsilon: f64,
    /// For `rope_theta`, in either place where it may stand.
    pub(crate) rope_theta: f64,
    /// `None`: as many as query heads.
    pub(crate) key_value_heads: Option<usize>,
    /// `None`: `hidden_size / num_attention_heads`.
    pub(crate) head_dim: Option<usize>,
    /// For `max_position_embeddings`.
    pub(crate) max_positions: usize,
    /// For `tie_word_embeddings`.
    pub(crate) tied_embeddings: bool,
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
const FAMILIES: [&Family; 19] = [
    &qwen2::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &olmoe::FAMILY,
    &olmo2::FAMILY,
    &deepseek_v2::FAMILY,
    &deepseek_v3::FAMILY,
    &gpt_oss::FAMILY,
    &granitemoe::FAMILY,
    &phimoe::FAMILY,
    &jetmoe::FAMILY,
    &gemma2::FAMILY,
    &gpt2::FAMILY,
    &gpt_neox::FAMILY,
    &moescope::FAMILY,
];

/// A configuration, understood.
pub(crate) struct Reading {
    /// Decides what the tensors of the folder are called.
    pub(crate) family: &'static Family,
    /// Checked: its sizes make a model.
    pub(crate) description: Description,
    /// Blocks behind the last that predict further tokens: they may be in the files, and are not run.
    pub(crate) prediction_blocks: usize,
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
    let found = configuration.text_if("model_type")?;
    let Some(family) = FAMILIES.iter().find(|family| Some(family.model_type) == found) else {
        return Err(ModelError::UnknownFamily {
            path: configuration.path().into(),
            key: "model_type",
            found: found.map(str::to_owned),
            known: supported_families(),
        });
    };
    effects::refuse(configuration, family.reads)?;
    let checked = description(configuration, family).and_then(|found| found.check().map(|()| found));
    let description = checked.map_err(|error| spelling::in_file(error, configuration))?;
    let prediction_blocks =
        if family.selection_bias { deepseek_v3::prediction_blocks(configuration)? } else { 0 };
    Ok(Reading { family, description, prediction_blocks })
}

/// The sizes that all families have, whichever way they spell them; the feed-forward layers and the rest are the family's own.
fn description(configuration: &Configuration, family: &Family) -> Result<Description, ModelError> {
    let defaults = &family.defaults;
    let heads = configuration.size_of(family.heads)?;
    let d_model = configuration.size_of(&["hidden_size", "n_embd"])?;
    let head_dim = match (configuration.size_if("head_dim")?, defaults.head_dim) {
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => d_model.checked_div(heads).unwrap_or(0),
    };
    let layers = configuration.size_of(&["num_hidden_layers", "n_layer"])?;
    check_layers(layers)?;
    let qk_norm = match family.qk_norm {
        QkNorm::Configured => moescope::qk_norm(configuration)?,
        fixed => fixed,
    };
    let mut variation = Variation::default();
    variation.attention.wide_qk_norm = qk_norm == QkNorm::Wide;
    let mut description = Description {
        vocab: configuration.size("vocab_size")?,
        d_model,
        heads,
        key_value_heads: configuration
            .size_if("num_key_value_heads")?
            .or(defaults.key_value_heads)
            .unwrap_or(heads),
        head_dim,
        rope_theta: defaults.rope_theta,
        norm_epsilon: configuration.number_if(family.epsilon)?.unwrap_or(defaults.norm_epsilon),
        max_positions: longest(configuration)?.unwrap_or(defaults.max_positions),
        tied_embeddings: options::flag(configuration, "tie_word_embeddings", defaults.tied_embeddings)?,
        qk_norm: qk_norm != QkNorm::None,
        feed_forward: (family.feed_forward)(configuration, layers)?,
        variation,
    };
    turn(configuration, family, &mut description)?;
    (family.vary)(configuration, &mut description)?;
    Ok(description)
}

/// The longest sequence, under whichever name.
fn longest(configuration: &Configuration) -> Result<Option<usize>, ModelError> {
    let names = ["max_position_embeddings", "n_positions"];
    let name = names.into_iter().find(|name| configuration.get(name).is_some());
    configuration.size_if(name.unwrap_or(names[0]))
}

/// How queries and keys turn. A scaling may allow for longer sequences than the model was trained on.
fn turn(
    configuration: &Configuration,
    family: &Family,
    description: &mut Description,
) -> Result<(), ModelError> {
    let rope = rope::read(configuration, family.defaults.rope_theta)?;
    if rope.share.is_some_and(|share| share != 1.0) && !family.reads.contains(&"partial_rotary_factor") {
        let found = rope.share.unwrap_or(1.0);
        let wanted = "1 or absent: this effect is not reproduced";
        return Err(configuration.complain("partial_rotary_factor", found, wanted));
    }
    description.rope_theta = rope.theta;
    description.max_positions = description.max_positions.max(rope.positions.unwrap_or(0));
    description.variation.positions =
        Positions::Rotary(Turning { scaling: rope.scaling, ..Turning::default() });
    Ok(())
}

/// The family in which a model is written and its configuration: `qwen3` or `qwen3_moe` where they can express it.
pub(crate) fn write(model: &Model) -> (&'static Family, Map<String, Value>) {
    let description = model.description();
    let biased = (0..description.layers()).any(|layer| model.selection_bias(layer).is_some());
    let plain = description.qk_norm && description.variation.is_plain() && !biased;
    let (family, own) = if let Some(own) = qwen3::express(description).filter(|_| plain) {
        (&qwen3::FAMILY, own)
    } else if let Some(own) = qwen3_moe::express(description).filter(|_| plain) {
        (&qwen3_moe::FAMILY, own)
    } else {
        (&moescope::FAMILY, moescope::express(description))
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

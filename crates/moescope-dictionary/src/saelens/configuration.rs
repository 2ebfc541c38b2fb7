//! What `cfg.json` says, as far as it decides a number.

use std::path::Path;

use serde_json::Value;

use crate::{DictionaryError, Place};

/// How features are read and which stay active, as SAELens calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    Standard,
    TopK { k: usize, rescale: bool },
    JumpRelu,
    Transcoder,
    JumpReluTranscoder,
}

/// A configuration that has been checked: everything it asks for is computed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) architecture: Architecture,
    pub(super) input: usize,
    pub(super) features: usize,
    pub(super) target: usize,
    pub(super) centred: bool,
    pub(super) place: Place,
}

/// The architectures that are read.
const KNOWN: &str = "standard, topk, jumprelu, transcoder or jumprelu_transcoder";

/// Reads the text of a `cfg.json`, of SAELens 6 or of the versions before, which had all keys side by side.
pub(super) fn read(path: &Path, text: &str) -> Result<Configuration, DictionaryError> {
    let broken = |reason: String| DictionaryError::Configuration { path: path.into(), reason };
    let value: Value = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
    let keys = Keys { path, value: &value };
    let architecture = keys.architecture()?;
    keys.refuse_what_is_not_computed()?;
    let size = |key: &'static str| match value[key].as_u64() {
        Some(size) if size > 0 => Ok(size as usize),
        _ => Err(broken(format!("`{key}` is {}", value[key]))),
    };
    let input = size("d_in")?;
    let transcodes = matches!(architecture, Architecture::Transcoder | Architecture::JumpReluTranscoder);
    Ok(Configuration {
        architecture,
        input,
        features: size("d_sae")?,
        target: if transcodes { size("d_out")? } else { input },
        // Before there was the key, the bias was always subtracted.
        centred: !transcodes && value["apply_b_dec_to_input"].as_bool().unwrap_or(true),
        place: keys.place(transcodes),
    })
}

struct Keys<'k> {
    path: &'k Path,
    value: &'k Value,
}

impl Keys<'_> {
    fn unsupported(&self, key: &'static str, wanted: &'static str) -> DictionaryError {
        let found = self.value[key].to_string();
        DictionaryError::Unsupported { path: self.path.into(), key, found, wanted }
    }

    fn architecture(&self) -> Result<Architecture, DictionaryError> {
        let value = self.value;
        let name = value["architecture"].as_str().unwrap_or("standard");
        let function =
            value["activation_fn"].as_str().or(value["activation_fn_str"].as_str()).unwrap_or("relu");
        match (name, function) {
            ("standard", "relu") => Ok(Architecture::Standard),
            // The versions before 6 called it an activation function.
            ("standard" | "topk", "topk") => self.top_k(&value["activation_fn_kwargs"]["k"]),
            ("topk", _) => self.top_k(&value["k"]),
            ("jumprelu", _) => Ok(Architecture::JumpRelu),
            ("transcoder", _) => Ok(Architecture::Transcoder),
            ("jumprelu_transcoder", _) => Ok(Architecture::JumpReluTranscoder),
            ("standard", _) => Err(self.unsupported("activation_fn", "relu or topk")),
            _ => Err(self.unsupported("architecture", KNOWN)),
        }
    }

    fn top_k(&self, k: &Value) -> Result<Architecture, DictionaryError> {
        let k = if k.is_null() { &self.value["k"] } else { k };
        let whole =
            k.as_u64().or_else(|| k.as_f64().filter(|k| k.fract() == 0.0 && *k > 0.0).map(|k| k as u64));
        let k = whole.filter(|k| *k > 0).ok_or_else(|| self.unsupported("k", "a number of features"))?;
        let rescale = self.value["rescale_acts_by_decoder_norm"].as_bool().unwrap_or(false);
        Ok(Architecture::TopK { k: k as usize, rescale })
    }

    /// Keys that would change the result and that nothing here honours.
    fn refuse_what_is_not_computed(&self) -> Result<(), DictionaryError> {
        let plain = |key: &str, allowed: &[&str]| {
            let value = &self.value[key];
            value.is_null() || value == false || value.as_str().is_some_and(|text| allowed.contains(&text))
        };
        if !plain("normalize_activations", &["none"]) {
            return Err(
                self.unsupported("normalize_activations", "none; fold the normalisation into the weights")
            );
        }
        // Rows of attention are laid side by side here already.
        if !plain("reshape_activations", &["none", "hook_z"]) {
            return Err(self.unsupported("reshape_activations", "none or hook_z"));
        }
        if !plain("finetuning_scaling_factor", &[]) {
            return Err(self.unsupported("finetuning_scaling_factor", "false"));
        }
        match self.value["hook_head_index"].is_null() && self.value["metadata"]["hook_head_index"].is_null() {
            true => Ok(()),
            false => Err(self.unsupported("hook_head_index", "none: a dictionary of all heads")),
        }
    }

    fn place(&self, transcodes: bool) -> Place {
        let text = |key: &str| {
            let new = self.value["metadata"][key].as_str();
            new.or(self.value[key].as_str()).map(str::to_owned)
        };
        let hook = text("hook_name").unwrap_or_default();
        let target_hook = text("hook_name_out").or_else(|| transcodes.then(|| hook.clone()));
        Place {
            model: text("model_name").unwrap_or_default(),
            hook,
            target_hook: target_hook.filter(|_| transcodes),
        }
    }
}

//! Dictionaries into folders.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use moescope_engine::Tensor;
use moescope_host::{make_folder, replace, write_tensors};
use safetensors::tensor::{Dtype, View};
use serde_json::{Value, json};

use crate::dictionary::transposed;
use crate::{Dictionary, DictionaryError, Rule};

/// Name of the file that says what a dictionary is.
pub const CONFIGURATION_FILE: &str = "cfg.json";
/// Name of the file that holds its tensors.
pub const TENSORS_FILE: &str = "sae_weights.safetensors";

/// The version of SAELens whose format is written.
const FORMAT: &str = "6.0.0";

impl Dictionary {
    /// Writes a folder that SAELens opens: `SAE.load_from_disk(folder)`, `Transcoder.load_from_disk(folder)`.
    ///
    /// `about` says how the dictionary was made; it is put under `metadata.moescope`, where nobody else looks. `cfg.json` is written
    /// last, so that a folder that has it is whole.
    ///
    /// # Errors
    /// [`DictionaryError::NoName`] for a `topk` transcoder, which SAELens has no name for, and for files that cannot be written.
    pub fn save(&self, folder: &Path, about: &Value) -> Result<(), DictionaryError> {
        let configuration = self.configuration(about)?;
        make_folder(folder)?;
        let mut tensors = vec![
            ("W_enc".to_owned(), Stored(transposed(&self.encoder))),
            ("b_enc".to_owned(), Stored(self.encoder_bias.clone())),
            ("W_dec".to_owned(), Stored(transposed(&self.decoder))),
            ("b_dec".to_owned(), Stored(self.bias.clone())),
        ];
        if let Rule::JumpRelu { thresholds } = &self.rule {
            tensors.push(("threshold".to_owned(), Stored(thresholds.clone())));
        }
        write_tensors(&folder.join(TENSORS_FILE), tensors, Some(("format", "pt")))?;
        replace(&folder.join(CONFIGURATION_FILE), |file| writeln!(file, "{configuration:#}"))?;
        Ok(())
    }

    /// Refuses what the format has no name for, before anything is computed.
    ///
    /// # Errors
    /// [`DictionaryError::NoName`].
    pub fn require_name(transcodes: bool, top_k: bool) -> Result<(), DictionaryError> {
        match transcodes && top_k {
            true => {
                Err(DictionaryError::NoName { what: "transcoder that keeps the `topk` features of a token" })
            }
            false => Ok(()),
        }
    }

    fn configuration(&self, about: &Value) -> Result<Value, DictionaryError> {
        let transcodes = self.is_transcoder();
        Dictionary::require_name(transcodes, matches!(self.rule, Rule::TopK { .. }))?;
        let architecture = match (&self.rule, transcodes) {
            (Rule::Relu, false) => "standard",
            (Rule::Relu, true) => "transcoder",
            (Rule::TopK { .. }, _) => "topk",
            (Rule::JumpRelu { .. }, false) => "jumprelu",
            (Rule::JumpRelu { .. }, true) => "jumprelu_transcoder",
        };
        let mut configuration = json!({
            "architecture": architecture,
            "d_in": self.input_width(),
            "d_sae": self.features(),
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self.centred,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {
                "sae_lens_version": FORMAT,
                "model_name": self.place.model,
                "hook_name": self.place.hook,
                "moescope": about,
            },
        });
        if let Rule::TopK { k } = self.rule {
            configuration["k"] = k.into();
            configuration["rescale_acts_by_decoder_norm"] = false.into();
        }
        if let Some(target) = &self.place.target_hook {
            configuration["d_out"] = self.target_width().into();
            configuration["metadata"]["hook_name_out"] = target.as_str().into();
        }
        Ok(configuration)
    }
}

/// A tensor as the format wants it: little-endian numbers of 32 bits.
struct Stored(Tensor);

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match cfg!(target_endian = "little") {
            true => Cow::Borrowed(bytemuck::cast_slice(self.0.data())),
            false => Cow::Owned(self.0.data().iter().flat_map(|x| x.to_le_bytes()).collect()),
        }
    }

    fn data_len(&self) -> usize {
        4 * self.0.len()
    }
}

//! Dictionaries out of folders.

use std::path::Path;

use moescope_engine::Tensor;
use moescope_weights::Weights;

use super::configuration::{self, Architecture, Configuration};
use super::write::{CONFIGURATION_FILE, TENSORS_FILE};
use crate::dictionary::transposed;
use crate::{Dictionary, DictionaryError, Parts, Rule};

impl Dictionary {
    /// Opens a folder in SAELens' format: autoencoders `standard`, `topk` and `jumprelu`, transcoders `transcoder` and
    /// `jumprelu_transcoder`, of SAELens 6 and of the versions before. Numbers may be stored in half precision.
    ///
    /// # Errors
    /// For files that are missing or damaged, tensors of other shapes than the configuration says, and whatever a configuration
    /// asks for that is not computed here.
    pub fn open(folder: &Path) -> Result<Dictionary, DictionaryError> {
        let path = folder.join(CONFIGURATION_FILE);
        let configuration = configuration::read(&path, &moescope_host::read_text(&path)?)?;
        let path = folder.join(TENSORS_FILE);
        let weights = Weights::open(&path)?;
        let tensors = Tensors { path: &path, weights: &weights };
        let Configuration { architecture, input, features, target, centred, place } = configuration;
        let mut encoder = transposed(&tensors.read("W_enc", &[input, features])?);
        let mut encoder_bias = tensors.read("b_enc", &[features])?;
        let mut decoder = tensors.read("W_dec", &[features, target])?; // [feature, target]
        if let Architecture::TopK { rescale: true, .. } = architecture {
            fold_lengths(&mut encoder, &mut encoder_bias, &mut decoder);
        }
        let rule = match architecture {
            Architecture::Standard | Architecture::Transcoder => Rule::Relu,
            Architecture::TopK { k, .. } => Rule::TopK { k },
            Architecture::JumpRelu | Architecture::JumpReluTranscoder => {
                Rule::JumpRelu { thresholds: tensors.thresholds(features)? }
            }
        };
        let bias = tensors.read("b_dec", &[target])?;
        let parts = Parts { rule, encoder, encoder_bias, decoder: transposed(&decoder), bias, centred };
        Dictionary::new(parts, place)
    }
}

struct Tensors<'t> {
    path: &'t Path,
    weights: &'t Weights,
}

impl Tensors<'_> {
    fn read(&self, name: &'static str, wanted: &[usize]) -> Result<Tensor, DictionaryError> {
        let view = self.weights.tensor(name)?;
        if view.shape() != wanted {
            let (found, wanted) = (view.shape().to_vec(), wanted.to_vec());
            return Err(DictionaryError::Shape { path: self.path.into(), tensor: name, found, wanted });
        }
        let numbers = view.read()?;
        view.require_finite(0, &numbers)?;
        Ok(Tensor::new(wanted, numbers)?)
    }

    /// Thresholds, or their logarithms as older trainings saved them; none below zero, as SAELens applies them.
    fn thresholds(&self, features: usize) -> Result<Tensor, DictionaryError> {
        let mut thresholds = match self.weights.get("log_threshold") {
            None => self.read("threshold", &[features])?,
            Some(_) => {
                let mut logarithms = self.read("log_threshold", &[features])?;
                logarithms.data_mut().iter_mut().for_each(|x| *x = x.exp());
                logarithms
            }
        };
        thresholds.data_mut().iter_mut().for_each(|threshold| *threshold = threshold.max(0.0));
        Ok(thresholds)
    }
}

/// Brings the choice by `pre-activation × length of what is written` to one by the pre-activation alone.
fn fold_lengths(encoder: &mut Tensor, encoder_bias: &mut Tensor, decoder: &mut Tensor) {
    let (input, target) = (encoder.columns(), decoder.columns());
    let rows = encoder.data_mut().chunks_exact_mut(input).zip(decoder.data_mut().chunks_exact_mut(target));
    for ((read, written), bias) in rows.zip(encoder_bias.data_mut()) {
        let length = written.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-8);
        read.iter_mut().for_each(|x| *x *= length);
        written.iter_mut().for_each(|x| *x /= length);
        *bias *= length;
    }
}

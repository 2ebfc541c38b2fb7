//! GGUF files: their metadata as the configuration of a Hugging Face folder, their tensors under that folder's names.
//!
//! So a model is of the same family whichever way it was stored, and nothing else here knows GGUF.

mod configuration;
mod names;

use std::path::Path;

use moescope_weights::{Metadata, Weights};

use crate::ModelError;
use crate::families::{ExpertNames, PROJECTIONS, mixtral};
use crate::folder::{Configuration, Tensors};

/// One architecture of GGUF, by the name that it has there.
struct Architecture {
    name: &'static str,
    /// `model_type` of the same model in a folder.
    family: &'static str,
    /// Of no meaning in a dense model.
    experts: &'static ExpertNames,
    /// Whether queries and keys are stored for rotary embedding over neighbours.
    pairs: bool,
    /// Whether routing weights are divided by their sum, which the files do not say.
    renormalise: bool,
}

/// All that are read. A `llama` with experts is a Mixtral.
const ARCHITECTURES: [Architecture; 7] = [
    of("llama", "llama", &PROJECTIONS, true),
    of("llama", "mixtral", &mixtral::FAMILY.experts, true),
    of("qwen2", "qwen2", &PROJECTIONS, false),
    of("qwen2moe", "qwen2_moe", &PROJECTIONS, false),
    of("qwen3", "qwen3", &PROJECTIONS, false),
    Architecture { renormalise: true, ..of("qwen3moe", "qwen3_moe", &PROJECTIONS, false) },
    of("gpt-oss", "gpt_oss", &PROJECTIONS, false),
];

const fn of(
    name: &'static str,
    family: &'static str,
    experts: &'static ExpertNames,
    pairs: bool,
) -> Architecture {
    Architecture { name, family, experts, pairs, renormalise: false }
}

/// What the architecture of a family's GGUF files is called, if they are read.
pub(crate) fn architecture_of(family: &str) -> Option<&'static str> {
    ARCHITECTURES.iter().find(|known| known.family == family).map(|known| known.name)
}

/// Configuration and tensors of weights that come with metadata.
///
/// # Errors
/// [`ModelError::UnknownFamily`], and [`ModelError::Configuration`] for a key that is missing, of another kind, or not known here.
pub(crate) fn open(weights: Weights) -> Result<(Configuration, Tensors), ModelError> {
    let metadata = weights.metadata().expect("only weights with metadata are brought here");
    let architecture = architecture(metadata, weights.path())?;
    let keys = configuration::keys(architecture, metadata, &weights)?;
    let entries = names::entries(architecture, &keys, &weights);
    let configuration = Configuration::new(weights.path().into(), keys);
    Ok((configuration, Tensors::renamed(weights, entries)))
}

/// Where the metadata name the architecture.
const KEY: &str = "general.architecture";

/// The architecture that the metadata name.
fn architecture(metadata: &Metadata, path: &Path) -> Result<&'static Architecture, ModelError> {
    let found = metadata.text(KEY).unwrap_or_default();
    let routed = metadata.unsigned(&format!("{found}.expert_count")).is_some_and(|experts| experts > 0);
    let fits = |known: &&Architecture| {
        known.name == found && (found != "llama" || routed == (known.family == "mixtral"))
    };
    ARCHITECTURES.iter().find(fits).ok_or_else(|| {
        let mut known: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
        known.dedup();
        let found = metadata.text(KEY).map(str::to_owned);
        ModelError::UnknownFamily { path: path.into(), key: KEY, found, known }
    })
}

#[cfg(test)]
mod tests;

//! A model on disk, whatever its form: what it is, and its tensors.

use std::path::Path;

use moescope_weights::Weights;

use super::Configuration;
use super::tensors::Tensors;
use crate::ModelError;
use crate::families::{self, Reading, gguf};

/// What a model is, and its tensors under the full names of its family.
///
/// # Errors
/// As [`open`], and for a configuration that is not understood.
pub(crate) fn read(path: &Path) -> Result<(Reading, Tensors), ModelError> {
    let (configuration, tensors) = open(path)?;
    let reading = families::read(&configuration)?;
    let tensors = tensors.under(&reading.family.names);
    Ok((reading, tensors))
}

/// Reads configuration and headers of a Hugging Face folder, of a single `.safetensors` file beside its `config.json`, of a
/// `.gguf` file, or of a folder with nothing but one.
///
/// # Errors
/// For files that are missing or damaged, and for a configuration that cannot be understood.
pub(crate) fn open(path: &Path) -> Result<(Configuration, Tensors), ModelError> {
    // A folder of a model is asked for its configuration first: without one there is no use in looking at weights.
    let asked = path.join("config.json").exists() || !path.exists();
    let configuration = if asked { Some(Configuration::read(path)?) } else { None };
    let weights = Weights::open(path)?;
    // A GGUF file says all itself, whatever lies beside it.
    if weights.metadata().is_some() {
        return gguf::open(weights);
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let configuration = configuration.map_or_else(|| Configuration::read(folder), Ok)?;
    Ok((configuration, Tensors::of(weights)))
}

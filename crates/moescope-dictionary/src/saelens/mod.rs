//! The folders of SAELens: `cfg.json` and `sae_weights.safetensors`.
//!
//! Features, biases and thresholds mean the same there and here, so nothing is converted but the order of axes. A `batchtopk`
//! dictionary is a `jumprelu` one with a single threshold, as SAELens has it, too.

mod configuration;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use write::{CONFIGURATION_FILE, TENSORS_FILE};

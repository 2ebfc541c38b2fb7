//! Hugging Face folders: reading, writing, looking at the headers.

mod configuration;
mod inspect;
mod open;
mod save;
mod sources;
mod tensors;
#[cfg(test)]
mod tests;

pub(crate) use configuration::Configuration;
pub use inspect::{Inspection, inspect};

/// The extra tensor of a layer with a selection bias.
fn selection_bias_name(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")
}

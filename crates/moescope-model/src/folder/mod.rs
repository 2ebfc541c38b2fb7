//! Models on disk: reading Hugging Face folders and GGUF files, writing folders, looking at the headers.

mod checkpoint;
mod configuration;
mod entry;
mod gather;
mod inspect;
#[cfg(test)]
mod mutations;
mod open;
mod save;
mod sources;
mod stock;
mod tensors;
#[cfg(test)]
mod tests;
mod tied;

pub(crate) use checkpoint::{open as open_checkpoint, read as read_checkpoint};
pub(crate) use configuration::Configuration;
pub(crate) use entry::{Entry, Stored};
pub use inspect::{Inspection, describe, inspect};
pub(crate) use sources::{Source, sources};
pub(crate) use stock::{Stock, scratch_bytes};
pub(crate) use tensors::Tensors;

/// The extra tensor of a layer with a selection bias.
fn selection_bias_name(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")
}

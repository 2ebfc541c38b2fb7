//! Mistral: as Llama, with a window in every layer.
//!
//! The window counts the token itself: with a window of `w` a token sees itself and the `w - 1` before it. `sliding_window: null` means
//! none. Source: Jiang et al. 2023, "Mistral 7B".
//!
//! `layer_types` is not followed by the reference, which gives every layer the window or none. Where a file has the list, it must say the
//! same: another program might follow it.

use super::{Defaults, Family, PLAIN, options};
use crate::ModelError;
use crate::description::Description;
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// Unlike Llama, a missing number of key-value heads means eight, and a missing window 4096 keys.
pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    defaults: Defaults { key_value_heads: Some(8), max_positions: 131_072, ..PLAIN.defaults },
    reads: &["sliding_window", "layer_types", "hidden_act"],
    fixtures: &["checkpoints/mistral"],
    vary,
    ..PLAIN
};

/// A window of null is none.
fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    every_layer(configuration, description, Some(4096))
}

/// The same window in every layer, `usual` keys where nothing is said.
pub(super) fn every_layer(
    configuration: &Configuration,
    description: &mut Description,
    usual: Option<usize>,
) -> Result<(), ModelError> {
    let window = options::window(configuration, usual)?;
    let sizes = (description.layers(), description.max_positions);
    let variation = &mut description.variation;
    variation.attention.windows = options::same_windows(configuration, window, sizes)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

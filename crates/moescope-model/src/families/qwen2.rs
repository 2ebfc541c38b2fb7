//! Qwen2: dense, with biases of queries, keys and values.
//!
//! The output projection has no bias, and keys `use_sliding_window` and `max_window_layers` decide which layers have a window.
//! Source: Yang et al. 2024, "Qwen2 Technical Report".
//!
//! Windows are those of late layers; in Qwen2-MoE they are those of early ones. With the switch off, `sliding_window` may stand at any
//! number and means nothing.

use super::{Defaults, Family, PLAIN, options};
use crate::ModelError;
use crate::description::Description;
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// The biases are not an option: no key tells them.
pub(super) const FAMILY: Family = Family {
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    defaults: Defaults { key_value_heads: Some(32), max_positions: 32_768, ..PLAIN.defaults },
    reads: &["sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "hidden_act"],
    fixtures: &["checkpoints/qwen2", "gguf/qwen2.gguf"],
    vary,
    ..PLAIN
};

fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    late_windows(configuration, description)?;
    description.variation.biases.attention_inputs = true;
    Ok(())
}

/// With the switch on, layers from `max_window_layers` on see a window; the activation is read too.
pub(super) fn late_windows(
    configuration: &Configuration,
    description: &mut Description,
) -> Result<(), ModelError> {
    let window = options::switched_window(configuration)?;
    let first = configuration.size_if("max_window_layers")?.unwrap_or(28);
    let sizes = (description.layers(), description.max_positions);
    let sliding = |layer| window.is_some() && layer >= first;
    let variation = &mut description.variation;
    variation.attention.windows = options::windows(configuration, window, sizes, sliding)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

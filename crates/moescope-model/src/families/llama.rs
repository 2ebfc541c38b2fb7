//! Llama: dense, without a norm of queries and keys.
//!
//! `head_dim` may differ from the width over the number of heads; `attention_bias` and `mlp_bias` add biases. Source: Touvron et al.
//! 2023, "LLaMA"; the scaling of Llama 3.1 is that of Grattafiori et al. 2024.
//!
//! A partial turn is refused: the reference ignores it without a scaling and fails with one.

use super::{Family, PLAIN, options};
use crate::ModelError;
use crate::description::Description;
use crate::folder::Configuration;
use crate::variation::{Activation, Neuron};

/// Defaults of the reference implementation, for keys that a checkpoint leaves out.
pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    reads: &["attention_bias", "mlp_bias", "hidden_act"],
    fixtures: &["checkpoints/llama", "gguf/llama.gguf"],
    vary,
    ..PLAIN
};

/// Biases and activation are options of the family that few checkpoints use.
fn vary(configuration: &Configuration, description: &mut Description) -> Result<(), ModelError> {
    let variation = &mut description.variation;
    variation.biases = options::attention_bias(configuration, false)?;
    variation.biases.feed_forward = configuration.flag("mlp_bias")?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

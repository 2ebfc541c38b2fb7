//! What the neurons of feed-forward layers and experts do.

use moescope_engine::{Activation as Function, Gate, Tape, Var};

use crate::ModelError;
use crate::variation::{Activation, Neuron};

/// Hidden activations from the gate and the linear branch, where there is one.
pub(super) fn neurons(
    tape: &mut Tape<'_>,
    gate: Var,
    up: Option<Var>,
    neuron: Neuron,
) -> Result<Var, ModelError> {
    Ok(match (neuron, up) {
        (Neuron::Gated(Activation::Silu), Some(up)) => tape.swiglu(gate, up)?,
        (Neuron::Gated(activation), Some(up)) => tape.gated(gate, up, Gate::Plain(function(activation)))?,
        (Neuron::Clamped { alpha, limit }, Some(up)) => {
            tape.gated(gate, up, Gate::Clamped { alpha: alpha as f32, limit: limit as f32 })?
        }
        (Neuron::Plain(activation), _) => tape.activate(gate, function(activation))?,
        (_, None) => unreachable!("a gated layer has a linear branch"),
    })
}

/// The engine's name of an activation.
fn function(activation: Activation) -> Function {
    match activation {
        Activation::Silu => Function::Silu,
        Activation::Gelu => Function::Gelu,
        Activation::GeluTanh => Function::GeluTanh,
        Activation::QuickGelu => Function::QuickGelu,
        Activation::Relu => Function::Relu,
    }
}

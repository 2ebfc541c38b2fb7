//! The gated activation.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

struct Swiglu {
    gate: Var,
    up: Var,
}

impl Tape<'_> {
    /// `silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))`.
    ///
    /// **Source:** Shazeer 2020, "GLU Variants Improve Transformer".
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the shapes differ.
    pub fn swiglu(&mut self, gate: Var, up: Var) -> Result<Var, EngineError> {
        self.require_shape("swiglu", "up", up, self.value(gate).shape())?;
        let mut out = Tensor::unfilled(self.value(gate).shape());
        self.device.swiglu(self.value(gate).data(), self.value(up).data(), out.data_mut());
        Ok(self.record(out, [Some(gate), Some(up)], Swiglu { gate, up }))
    }
}

impl Operation for Swiglu {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut gate_gradient = sweep.unfilled_like(self.gate);
        let (gate, up) = (sweep.value(self.gate).data(), sweep.value(self.up).data());
        sweep.device().swiglu_backward(gate, up, gradient.data_mut(), gate_gradient.data_mut());
        sweep.add(self.gate, gate_gradient);
        sweep.add(self.up, gradient);
    }
}

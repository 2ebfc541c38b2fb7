//! Sums of two tensors.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

struct AddScaled {
    a: Var,
    b: Var,
    factor: f32,
}

impl Tape<'_> {
    /// `a + b`, entry by entry.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the shapes differ.
    pub fn add(&mut self, a: Var, b: Var) -> Result<Var, EngineError> {
        self.sum("add", a, b, 1.0)
    }

    /// `a + factor * b`, entry by entry: combines losses, say.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the shapes differ.
    pub fn add_scaled(&mut self, a: Var, b: Var, factor: f32) -> Result<Var, EngineError> {
        self.sum("add_scaled", a, b, factor)
    }

    fn sum(&mut self, operation: &'static str, a: Var, b: Var, factor: f32) -> Result<Var, EngineError> {
        self.require_shape(operation, "b", b, self.value(a).shape())?;
        let mut out = Tensor::unfilled(self.value(a).shape());
        self.device.add_scaled(self.value(a).data(), self.value(b).data(), factor, out.data_mut());
        Ok(self.record(out, [Some(a), Some(b)], AddScaled { a, b, factor }))
    }
}

impl Operation for AddScaled {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        if sweep.wants(self.b) {
            if self.factor == 1.0 {
                sweep.add(self.b, gradient.clone());
            } else {
                let mut scaled = sweep.unfilled_like(self.b);
                sweep.device().scale(gradient.data(), self.factor, scaled.data_mut());
                sweep.add(self.b, scaled);
            }
        }
        sweep.add(self.a, gradient);
    }
}

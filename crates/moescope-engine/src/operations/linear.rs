//! The dense product.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, LinearShape, Tape, Tensor, Var};

struct Linear {
    x: Var,
    weight: Var,
    shape: LinearShape,
}

impl Tape<'_> {
    /// `x[token, input] · weight[output, input]ᵀ`: `[token, output]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when `x` is not as wide as the weight.
    pub fn linear(&mut self, x: Var, weight: Var) -> Result<Var, EngineError> {
        let rows = self.value(x).rows();
        let shape = match *self.value(weight).shape() {
            [outputs, inputs] if inputs == self.value(x).columns() => LinearShape { rows, inputs, outputs },
            ref found => {
                let wanted = format!("[output, {}] to match `x`", self.value(x).columns());
                return Err(EngineError::Shape {
                    operation: "linear",
                    argument: "weight",
                    found: found.to_vec(),
                    wanted,
                });
            }
        };
        let mut out = Tensor::unfilled([rows, shape.outputs]);
        self.device.linear(self.value(x).data(), self.value(weight).data(), shape, out.data_mut());
        Ok(self.record(out, [Some(x), Some(weight)], Linear { x, weight, shape }))
    }
}

impl Operation for Linear {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let device = sweep.device();
        if sweep.wants(self.weight) {
            let (mut out, started) = sweep.open(self.weight);
            let x = sweep.value(self.x).data();
            device.linear_weight(gradient.data(), x, self.shape, out.data_mut(), started);
            sweep.put(self.weight, out);
        }
        if sweep.wants(self.x) {
            let (mut out, started) = sweep.open(self.x);
            let weight = sweep.value(self.weight).data();
            device.linear_input(gradient.data(), weight, self.shape, out.data_mut(), started);
            sweep.put(self.x, out);
        }
    }
}

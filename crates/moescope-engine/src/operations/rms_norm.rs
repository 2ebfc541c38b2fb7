//! Root-mean-square normalisation.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

struct RmsNorm {
    x: Var,
    weight: Var,
    epsilon: f32,
}

impl Tape<'_> {
    /// `x / sqrt(mean(x²) + epsilon) * weight` over the last axis; `weight[column]`.
    ///
    /// **Source:** Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the weight is not as long as a row.
    pub fn rms_norm(&mut self, x: Var, weight: Var, epsilon: f32) -> Result<Var, EngineError> {
        self.require_shape("rms_norm", "weight", weight, &[self.value(x).columns()])?;
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.rms_norm(self.value(x).data(), self.value(weight).data(), epsilon, out.data_mut());
        Ok(self.record(out, [Some(x), Some(weight)], RmsNorm { x, weight, epsilon }))
    }
}

impl Operation for RmsNorm {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut x_gradient = sweep.unfilled_like(self.x);
        let mut weight_gradient = sweep.unfilled_like(self.weight);
        sweep.device().rms_norm_backward(
            sweep.value(self.x).data(),
            sweep.value(self.weight).data(),
            self.epsilon,
            gradient.data(),
            x_gradient.data_mut(),
            weight_gradient.data_mut(),
        );
        sweep.add(self.weight, weight_gradient);
        sweep.add(self.x, x_gradient);
    }
}

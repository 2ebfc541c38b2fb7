//! Scores that sum to one.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

struct Softmax {
    x: Var,
}

impl Tape<'_> {
    /// `exp(x) / Σ exp(x)` over the last axis.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn softmax(&mut self, x: Var) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.softmax(self.value(x).data(), self.value(x).columns(), out.data_mut());
        Ok(self.record(out, [Some(x), None], Softmax { x }))
    }
}

impl Operation for Softmax {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let columns = gradient.columns();
        sweep.device().softmax_backward(sweep.result().data(), columns, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

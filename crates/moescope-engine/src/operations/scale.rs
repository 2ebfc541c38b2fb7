//! A tensor times a number.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

struct Scale {
    x: Var,
    factor: f32,
}

impl Tape<'_> {
    /// `factor * x`, entry by entry.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn scale(&mut self, x: Var, factor: f32) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.scale(self.value(x).data(), factor, out.data_mut());
        Ok(self.record(out, [Some(x), None], Scale { x, factor }))
    }
}

impl Operation for Scale {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        sweep.device().scale(gradient.data(), self.factor, out.data_mut());
        sweep.add(self.x, out);
    }
}

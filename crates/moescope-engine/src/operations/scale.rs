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

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scaling_follows_the_reference(length in 1usize..40, factor in -2f32..2.0, seed: u64) {
            let reference = |x: &[Vec<f64>]| x[0].iter().map(|a| f64::from(factor) * a).collect();
            check(&[numbers(&[length], seed)], |tape, x| tape.scale(x[0], factor), reference);
        }
    }
}

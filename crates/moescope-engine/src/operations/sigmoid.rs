//! Scores between zero and one, each on its own.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The way back starts from the result.
struct Sigmoid {
    x: Var,
}

impl Tape<'_> {
    /// `1 / (1 + exp(-x))`, entry by entry.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn sigmoid(&mut self, x: Var) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.sigmoid(self.value(x).data(), out.data_mut());
        Ok(self.record(out, [Some(x), None], Sigmoid { x }))
    }
}

impl Operation for Sigmoid {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        sweep.device().sigmoid_backward(sweep.result().data(), gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_follow_the_reference(length in 1usize..40, seed: u64) {
            let reference = |x: &[Vec<f64>]| x[0].iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
            check(&[numbers(&[length], seed)], |tape, x| tape.sigmoid(x[0]), reference);
        }
    }
}

//! A linear read-out.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `with` is a constant: it gets no gradient.
struct SumProduct {
    x: Var,
    with: Tensor,
}

impl Tape<'_> {
    /// `Σ x * with`: one number, whose gradient for `x` is `with`. Any linear read-out can be differentiated through it.
    ///
    /// # Errors
    /// [`EngineError::Length`] when `with` does not have as many entries as `x`.
    pub fn sum_product(&mut self, x: Var, with: Tensor) -> Result<Var, EngineError> {
        let (found, wanted) = (with.len(), self.value(x).len());
        if found != wanted {
            return Err(EngineError::Length { operation: "sum_product", argument: "with", found, wanted });
        }
        let sum = Tensor::scalar(self.device.sum_product(self.value(x).data(), with.data()));
        Ok(self.record(sum, [Some(x), None], SumProduct { x, with }))
    }
}

impl Operation for SumProduct {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        sweep.device().scale(self.with.data(), gradient.data()[0], out.data_mut());
        sweep.add(self.x, out);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn read_outs_follow_the_reference(length in 1usize..70, seed: u64) {
            let with = numbers(&[length], seed ^ 1);
            let reference = |x: &[Vec<f64>]| {
                vec![x[0].iter().zip(with.data()).map(|(x, &with)| x * f64::from(with)).sum::<f64>()]
            };
            check(&[numbers(&[length], seed)], |tape, x| tape.sum_product(x[0], with.clone()), reference);
        }
    }
}

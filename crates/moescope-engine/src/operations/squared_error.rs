//! How far rows are from what they should be.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `difference[row, column]` is kept: both gradients are multiples of it.
struct SquaredError {
    x: Var,
    target: Var,
    difference: Tensor,
}

const NAME: &str = "squared_error";

impl Tape<'_> {
    /// Mean over rows of `Σ_column (x - target)²`: one number.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the two differ in shape or there is no row.
    pub fn squared_error(&mut self, x: Var, target: Var) -> Result<Var, EngineError> {
        let shape = self.value(x).shape().to_vec();
        self.require_shape(NAME, "target", target, &shape)?;
        if self.value(x).is_empty() {
            let (found, wanted) = (shape, "at least one row".into());
            return Err(EngineError::Shape { operation: NAME, argument: "x", found, wanted });
        }
        let mut difference = Tensor::unfilled(shape);
        self.device.add_scaled(self.value(x).data(), self.value(target).data(), -1.0, difference.data_mut());
        let sum = self.device.sum_product(difference.data(), difference.data());
        let loss = Tensor::scalar(sum / difference.rows() as f32);
        Ok(self.record(loss, [Some(x), Some(target)], SquaredError { x, target, difference }))
    }
}

impl Operation for SquaredError {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let factor = 2.0 * gradient.data()[0] / self.difference.rows() as f32;
        for (var, factor) in [(self.x, factor), (self.target, -factor)] {
            if sweep.wants(var) {
                let mut out = sweep.unfilled_like(var);
                sweep.device().scale(self.difference.data(), factor, out.data_mut());
                sweep.add(var, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn distances_follow_the_reference(rows in 1usize..5, columns in 1usize..40, seed: u64) {
            let inputs = [numbers(&[rows, columns], seed), numbers(&[rows, columns], seed ^ 1)];
            let reference = |x: &[Vec<f64>]| {
                let sum: f64 = x[0].iter().zip(&x[1]).map(|(a, b)| (a - b).powi(2)).sum();
                vec![sum / rows as f64]
            };
            check(&inputs, |tape, vars| tape.squared_error(vars[0], vars[1]), reference);
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[900, 61], 1), numbers(&[900, 61], 2)];
        check_bits(&inputs, |tape, vars| tape.squared_error(vars[0], vars[1]));
    }

    #[test]
    fn shapes_that_differ_and_no_rows_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let (x, short) = (tape.constant(Tensor::zeros([2, 3])), tape.constant(Tensor::zeros([2, 2])));
        assert!(tape.squared_error(x, short).unwrap_err().to_string().contains("target"));
        let none = tape.constant(Tensor::zeros([0, 3]));
        assert!(tape.squared_error(none, none).unwrap_err().to_string().contains("at least one row"));
    }
}

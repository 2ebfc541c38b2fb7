//! Sums of two tensors.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// Needs no values on the way back.
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

    /// Both of the above; `operation` is the name in errors.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_follow_the_reference(rows in 1usize..5, columns in 1usize..8, factor in -2f32..2.0, seed: u64) {
            let inputs = [numbers(&[rows, columns], seed), numbers(&[rows, columns], seed ^ 1)];
            let reference = |x: &[Vec<f64>]| x[0].iter().zip(&x[1]).map(|(a, b)| a + f64::from(factor) * b).collect();
            check(&inputs, |tape, vars| tape.add_scaled(vars[0], vars[1], factor), reference);
        }
    }

    #[test]
    fn a_tensor_added_to_itself_doubles() {
        check(
            &[numbers(&[3, 5], 1)],
            |tape, x| tape.add(x[0], x[0]),
            |x| x[0].iter().map(|a| 2.0 * a).collect(),
        );
    }

    #[test]
    fn many_entries_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[100, 401], 1), numbers(&[100, 401], 2)];
        check_bits(&inputs, |tape, vars| tape.add_scaled(vars[0], vars[1], 0.3));
    }

    #[test]
    fn different_shapes_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let (a, b) = (tape.constant(Tensor::zeros([2, 3])), tape.constant(Tensor::zeros([3, 2])));
        let message = tape.add(a, b).unwrap_err().to_string();
        assert!(message.starts_with("add: `b` has shape [3, 2], wanted [2, 3]"), "{message}");
    }
}

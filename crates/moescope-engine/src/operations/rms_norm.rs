//! Root-mean-square normalisation.

use crate::backward::{Operation, Sweep};
use crate::recompute::{Recompute, Values};
use crate::{EngineError, Tape, Tensor, Var};

/// The roots are not kept; they are worked out again on the way back.
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
        Ok(self.compute([Some(x), Some(weight)], RmsNorm { x, weight, epsilon }))
    }
}

impl Recompute for RmsNorm {
    fn result(&self, values: &Values<'_, '_>) -> Tensor {
        let mut out = values.unfilled_like(self.x);
        values.device.rms_norm(values.of(self.x), values.of(self.weight), self.epsilon, out.data_mut());
        out
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

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[f64], weight: &[f64], epsilon: f64) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            x.iter().zip(weight).map(|(x, weight)| x / (mean + epsilon).sqrt() * weight).collect()
        };
        x.chunks(weight.len()).flat_map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn norms_follow_the_reference(rows in 1usize..4, columns in 1usize..50, seed: u64) {
            let inputs = [numbers(&[rows, columns], seed), positive(&[columns], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.rms_norm(vars[0], vars[1], 1e-2);
            check(&inputs, build, |x| reference(&x[0], &x[1], f64::from(1e-2f32)));
        }
    }

    #[test]
    fn a_hand_worked_row() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::new([1, 2], vec![3.0, 4.0]).unwrap());
        let weight = tape.constant(Tensor::new([2], vec![1.0, 2.0]).unwrap());
        let y = tape.rms_norm(x, weight, 0.0).unwrap();
        let root = 12.5f32.sqrt();
        assert!((tape.value(y).data()[0] - 3.0 / root).abs() < 1e-6);
        assert!((tape.value(y).data()[1] - 8.0 / root).abs() < 1e-6);
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[700, 61], 1), positive(&[61], 2)];
        check_bits(&inputs, |tape, vars| tape.rms_norm(vars[0], vars[1], 1e-6));
    }
}

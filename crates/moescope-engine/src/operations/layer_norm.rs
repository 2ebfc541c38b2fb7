//! Normalisation to mean zero and variance one.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The moments are not kept; they are worked out again on the way back.
struct LayerNorm {
    x: Var,
    weight: Var,
    bias: Var,
    epsilon: f32,
}

impl Tape<'_> {
    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the last axis; `weight[column]`, `bias[column]`.
    ///
    /// **Source:** Ba, Kiros and Hinton 2016, "Layer Normalization".
    ///
    /// # Errors
    /// [`EngineError::Shape`] when weight or bias are not as long as a row.
    pub fn layer_norm(&mut self, x: Var, weight: Var, bias: Var, epsilon: f32) -> Result<Var, EngineError> {
        let columns = self.value(x).columns();
        self.require_shape("layer_norm", "weight", weight, &[columns])?;
        self.require_shape("layer_norm", "bias", bias, &[columns])?;
        let mut out = Tensor::unfilled(self.value(x).shape());
        let [x_data, weight_data, bias_data] = [x, weight, bias].map(|var| self.value(var).data());
        self.device.layer_norm(x_data, weight_data, bias_data, epsilon, out.data_mut());
        Ok(self.record(out, [Some(x), Some(weight), Some(bias)], LayerNorm { x, weight, bias, epsilon }))
    }
}

impl Operation for LayerNorm {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = [self.x, self.weight, self.bias].map(|var| sweep.unfilled_like(var));
        let [x, weight, bias] = &mut out;
        sweep.device().layer_norm_backward(
            sweep.value(self.x).data(),
            sweep.value(self.weight).data(),
            self.epsilon,
            gradient.data(),
            x.data_mut(),
            weight.data_mut(),
            bias.data_mut(),
        );
        for (var, gradient) in [self.x, self.weight, self.bias].into_iter().zip(out) {
            sweep.add(var, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], epsilon: f64) -> Vec<f64> {
        let row = |row: &[f64]| -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
            let normal = row.iter().map(|x| (x - mean) / (variance + epsilon).sqrt());
            normal.zip(&x[1]).zip(&x[2]).map(|((n, weight), bias)| n * weight + bias).collect()
        };
        x[0].chunks(x[1].len()).flat_map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn norms_follow_the_reference(rows in 1usize..4, columns in 1usize..50, seed: u64) {
            let inputs = [numbers(&[rows, columns], seed), positive(&[columns], seed ^ 1), numbers(&[columns], seed ^ 2)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.layer_norm(vars[0], vars[1], vars[2], 1e-2);
            check(&inputs, build, |x| reference(x, f64::from(1e-2f32)));
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[700, 61], 1), positive(&[61], 2), numbers(&[61], 3)];
        check_bits(&inputs, |tape, vars| tape.layer_norm(vars[0], vars[1], vars[2], 1e-6));
    }

    #[test]
    fn a_bias_of_another_length_is_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let [x, weight, bias] =
            [vec![2, 3], vec![3], vec![2]].map(|shape| tape.constant(Tensor::zeros(shape)));
        assert!(matches!(tape.layer_norm(x, weight, bias, 0.0), Err(EngineError::Shape { .. })));
    }
}

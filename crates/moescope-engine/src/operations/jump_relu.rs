//! A rectifier that jumps at a learned threshold.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The way back needs the argument, not the result.
struct JumpRelu {
    x: Var,
    thresholds: Var,
    bandwidth: f32,
}

impl Tape<'_> {
    /// `x` where it is above the threshold of its column, `thresholds[column]`, and zero elsewhere.
    ///
    /// The gradient for `x` is that of what was let through. A threshold has no gradient at any single number, so it gets an
    /// estimate of the gradient of the mean over the numbers that might have come: `-threshold / bandwidth` times the gradient
    /// of each entry within half a `bandwidth` of the threshold. With many rows it is the derivative of the mean, as far as
    /// numbers are spread evenly over the window.
    ///
    /// **Source:** Rajamanoharan et al. 2024, "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse
    /// Autoencoders", equation 11, with the rectangle kernel.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when there is not one threshold for each column.
    pub fn jump_relu(&mut self, x: Var, thresholds: Var, bandwidth: f32) -> Result<Var, EngineError> {
        self.require_shape("jump_relu", "thresholds", thresholds, &[self.value(x).columns()])?;
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.jump_relu(self.value(x).data(), self.value(thresholds).data(), out.data_mut());
        Ok(self.record(out, [Some(x), Some(thresholds)], JumpRelu { x, thresholds, bandwidth }))
    }
}

impl Operation for JumpRelu {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.thresholds);
        let (x, thresholds) = (sweep.value(self.x).data(), sweep.value(self.thresholds).data());
        let device = sweep.device();
        device.jump_relu_backward(x, thresholds, self.bandwidth, gradient.data_mut(), out.data_mut());
        sweep.add(self.thresholds, out);
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::Mode;
    use crate::testing::*;
    use proptest::prelude::*;

    /// Numbers spread evenly over `0..2`, the same in each column but for a shift below their distance: `[row, column]`.
    pub(in super::super) fn even(rows: usize, columns: usize) -> Tensor {
        let place = |i: usize| {
            2.0 * ((i / columns) as f32 + 0.5 + 0.1 * (i % columns) as f32 / columns as f32) / rows as f32
        };
        Tensor::new([rows, columns], (0..rows * columns).map(place).collect()).unwrap()
    }

    proptest! {
        /// With constant thresholds: the estimate for them is no derivative of a finite sum, and is tested below.
        #[test]
        fn what_is_let_through_follows_the_reference(rows in 1usize..5, columns in 1usize..30, seed: u64) {
            let thresholds = positive(&[columns], seed ^ 1);
            let build = |tape: &mut Tape<'_>, x: &[Var]| {
                let thresholds = tape.constant(thresholds.clone());
                tape.jump_relu(x[0], thresholds, 0.1)
            };
            let reference = |x: &[Vec<f64>]| {
                let each = x[0].iter().zip(thresholds.data().iter().cycle());
                each.map(|(&x, &threshold)| if x > f64::from(threshold) { x } else { 0.0 }).collect()
            };
            check(&[numbers(&[rows, columns], seed)], build, reference);
        }
    }

    #[test]
    fn a_worked_case_of_the_estimate() {
        let mut tape = Tape::new(Mode::Gradient);
        let x = tape.constant(Tensor::new([3, 1], vec![0.4, 0.55, 2.0]).unwrap());
        let threshold = tape.leaf(Tensor::new([1], vec![0.5]).unwrap());
        tape.watch(threshold);
        let y = tape.jump_relu(x, threshold, 0.25).unwrap();
        assert_eq!(tape.value(y).data(), [0.0, 0.55, 2.0]);
        let loss = tape.sum_product(y, Tensor::new([3, 1], vec![1.0, 10.0, 100.0]).unwrap()).unwrap();
        // The first two are within 0.125 of the threshold: -(0.5 / 0.25) (1 + 10).
        assert_eq!(tape.backward(loss).unwrap().of(threshold).unwrap().data(), [-22.0]);
    }

    /// The mean over many numbers has a derivative, and the estimate is that derivative.
    #[test]
    fn over_many_rows_the_estimate_is_the_finite_difference_of_the_mean() {
        let (rows, columns) = (20_000, 3);
        let x = even(rows, columns);
        let at = [0.3f32, 0.8, 1.4];
        let mut tape = Tape::new(Mode::Gradient);
        let (x_var, thresholds) = (tape.constant(x.clone()), tape.leaf(Tensor::new([3], at.into()).unwrap()));
        tape.watch(thresholds);
        let y = tape.jump_relu(x_var, thresholds, 0.1).unwrap();
        let loss = tape.sum_product(y, Tensor::full([rows, columns], 1.0 / rows as f32)).unwrap();
        let found = tape.backward(loss).unwrap().of(thresholds).unwrap().data().to_vec();
        for column in 0..columns {
            let mean = |threshold: f64| -> f64 {
                let entries = x.data().iter().skip(column).step_by(columns).map(|&x| f64::from(x));
                entries.filter(|&x| x > threshold).sum::<f64>() / rows as f64
            };
            let (low, high) = (f64::from(at[column]) - 0.02, f64::from(at[column]) + 0.02);
            let wanted = (mean(high) - mean(low)) / 0.04;
            assert!((f64::from(found[column]) - wanted).abs() < 0.01 * wanted.abs(), "{found:?} {wanted}");
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[900, 61], 1), positive(&[61], 2)];
        check_bits(&inputs, |tape, vars| tape.jump_relu(vars[0], vars[1], 0.5));
    }

    #[test]
    fn too_few_thresholds_are_refused() {
        let mut tape = Tape::new(Mode::Inference);
        let (x, few) = (tape.constant(Tensor::zeros([2, 3])), tape.constant(Tensor::zeros([2])));
        assert!(tape.jump_relu(x, few, 0.1).unwrap_err().to_string().contains("thresholds"));
    }
}

//! How many entries of a row lie above their thresholds.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// Entries get no gradient: a count does not move with them.
struct CountAbove {
    x: Var,
    thresholds: Var,
    bandwidth: f32,
}

const NAME: &str = "count_above";

impl Tape<'_> {
    /// Mean over rows of the number of entries above the threshold of their column: one number, the L0 of
    /// [`jump_relu`](Self::jump_relu).
    ///
    /// No gradient flows to `x`. A threshold gets the estimate `-1 / bandwidth` for each entry within half a `bandwidth` of it,
    /// over the number of rows.
    ///
    /// **Source:** Rajamanoharan et al. 2024, "Jumping Ahead", equation 12, with the rectangle kernel.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when there is not one threshold for each column, or no row.
    pub fn count_above(&mut self, x: Var, thresholds: Var, bandwidth: f32) -> Result<Var, EngineError> {
        self.require_shape(NAME, "thresholds", thresholds, &[self.value(x).columns()])?;
        let value = self.value(x);
        if value.is_empty() {
            let (found, wanted) = (value.shape().to_vec(), "at least one row".into());
            return Err(EngineError::Shape { operation: NAME, argument: "x", found, wanted });
        }
        let count = self.device.count_above(value.data(), self.value(thresholds).data());
        let mean = Tensor::scalar((count as f64 / value.rows() as f64) as f32);
        // The thresholds come first: they are all that a gradient flows to.
        Ok(self.record(mean, [Some(thresholds), None], CountAbove { x, thresholds, bandwidth }))
    }
}

impl Operation for CountAbove {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.thresholds);
        let x = sweep.value(self.x);
        let factor = gradient.data()[0] / x.rows() as f32;
        let thresholds = sweep.value(self.thresholds).data();
        sweep.device().count_above_backward(x.data(), thresholds, self.bandwidth, factor, out.data_mut());
        sweep.add(self.thresholds, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;
    use crate::operations::jump_relu::tests::even;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[f32], thresholds: &[f32]) -> f64 {
        let above = x.iter().zip(thresholds.iter().cycle()).filter(|(x, threshold)| x > threshold).count();
        above as f64 / (x.len() / thresholds.len()) as f64
    }

    proptest! {
        #[test]
        fn counts_follow_the_reference(rows in 1usize..6, columns in 1usize..30, seed: u64) {
            let (x, thresholds) = (numbers(&[rows, columns], seed), numbers(&[columns], seed ^ 1));
            let wanted = reference(x.data(), thresholds.data());
            let mut tape = Tape::new(Mode::Inference);
            let (x, thresholds) = (tape.constant(x), tape.constant(thresholds));
            let count = tape.count_above(x, thresholds, 0.1).unwrap();
            prop_assert!((f64::from(tape.value(count).data()[0]) - wanted).abs() < 1e-5);
        }
    }

    #[test]
    fn over_many_rows_the_estimate_is_the_finite_difference_of_the_mean() {
        let (rows, columns) = (20_000, 3);
        let (x, at) = (even(rows, columns), [0.3f32, 0.8, 1.4]);
        let mut tape = Tape::new(Mode::Gradient);
        let (x_var, thresholds) = (tape.constant(x.clone()), tape.leaf(Tensor::new([3], at.into()).unwrap()));
        tape.watch(thresholds);
        let count = tape.count_above(x_var, thresholds, 0.1).unwrap();
        let found = tape.backward(count).unwrap().of(thresholds).unwrap().data().to_vec();
        for column in 0..columns {
            let moved = |by: f32| {
                let mut moved = at;
                moved[column] += by;
                reference(x.data(), &moved)
            };
            let wanted = (moved(0.02) - moved(-0.02)) / 0.04;
            assert!((f64::from(found[column]) - wanted).abs() < 0.01 * wanted.abs(), "{found:?} {wanted}");
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[900, 61], 1), positive(&[61], 2)];
        check_bits(&inputs, |tape, vars| tape.count_above(vars[0], vars[1], 0.5));
    }

    #[test]
    fn no_rows_and_too_few_thresholds_are_refused() {
        let mut tape = Tape::new(Mode::Inference);
        let (x, few) = (tape.constant(Tensor::zeros([2, 3])), tape.constant(Tensor::zeros([2])));
        assert!(tape.count_above(x, few, 0.1).is_err());
        let (none, three) = (tape.constant(Tensor::zeros([0, 3])), tape.constant(Tensor::zeros([3])));
        assert!(tape.count_above(none, three, 0.1).is_err());
    }
}

//! Only the strongest entries of a whole batch survive.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The result says what was kept.
struct TopOfBatch {
    x: Var,
}

impl Tape<'_> {
    /// Keeps the `count` entries of largest magnitude of all rows together and zeros the others; of equals, those that come
    /// first stay. An entry that is zero is never among them, so fewer may be left.
    ///
    /// The gradient flows through what was kept. The choice itself has no gradient.
    ///
    /// **Source:** Bussmann, Leask and Nanda 2024, "BatchTopK Sparse Autoencoders", section 3.
    ///
    /// # Errors
    /// [`EngineError::Range`] when `count` is not in `1..=entries`.
    pub fn top_of_batch(&mut self, x: Var, count: usize) -> Result<Var, EngineError> {
        let high = self.value(x).len();
        if count == 0 || count > high {
            let operation = "top_of_batch";
            return Err(EngineError::Range { operation, argument: "count", found: count, low: 1, high });
        }
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.top_of_batch(self.value(x).data(), count, out.data_mut());
        Ok(self.record(out, [Some(x), None], TopOfBatch { x }))
    }
}

impl Operation for TopOfBatch {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        sweep.device().top_of_batch_backward(sweep.result().data(), gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    /// Magnitudes at least 0.1 apart, so that a finite difference does not change the choice.
    fn distinct(rows: usize, columns: usize, seed: u64) -> Tensor {
        let random = numbers(&[rows, columns], seed);
        let rank = |x: f32| random.data().iter().filter(|other| other.abs() < x.abs()).count();
        let data = random.data().iter().map(|&x| x.signum() * 0.1 * (1 + rank(x)) as f32).collect();
        Tensor::new([rows, columns], data).unwrap()
    }

    fn reference(x: &[f64], count: usize) -> Vec<f64> {
        let stronger = |x: f64, y: f64| y.abs() > x.abs();
        x.iter()
            .map(|&x0| if x.iter().filter(|&&y| stronger(x0, y)).count() < count { x0 } else { 0.0 })
            .collect()
    }

    proptest! {
        #[test]
        fn survivors_follow_the_reference(rows in 1usize..4, columns in 1usize..9, pick in 0.0f64..1.0, seed: u64) {
            let count = 1 + (pick * (rows * columns) as f64) as usize;
            let build = |tape: &mut Tape<'_>, x: &[Var]| tape.top_of_batch(x[0], count);
            check(&[distinct(rows, columns, seed)], build, |x| reference(&x[0], count));
        }
    }

    #[test]
    fn of_equals_the_first_stay_and_zeros_never() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::new([2, 2], vec![2.0, 0.0, -2.0, 2.0]).unwrap());
        let two = tape.top_of_batch(x, 2).unwrap();
        assert_eq!(tape.value(two).data(), [2.0, 0.0, -2.0, 0.0]);
        let four = tape.top_of_batch(x, 4).unwrap();
        assert_eq!(tape.value(four).data(), [2.0, 0.0, -2.0, 2.0]);
        assert!(tape.top_of_batch(x, 5).is_err() && tape.top_of_batch(x, 0).is_err());
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        check_bits(&[numbers(&[300, 128], 3)], |tape, x| tape.top_of_batch(x[0], 1300));
    }
}

//! Scores that sum to one.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The way back starts from the result.
struct Softmax {
    x: Var,
}

impl Tape<'_> {
    /// `exp(x) / Σ exp(x)` over the last axis.
    ///
    /// Each row's largest entry is taken off first, so large logits do not overflow.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn softmax(&mut self, x: Var) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.softmax(self.value(x).data(), self.value(x).columns(), out.data_mut());
        Ok(self.record(out, [Some(x), None], Softmax { x }))
    }
}

impl Operation for Softmax {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let columns = gradient.columns();
        sweep.device().softmax_backward(sweep.result().data(), columns, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[f64], columns: usize) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let total: f64 = x.iter().map(|x| x.exp()).sum();
            x.iter().map(|x| x.exp() / total).collect()
        };
        x.chunks(columns).flat_map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn shares_follow_the_reference(rows in 1usize..4, columns in 1usize..40, seed: u64) {
            check(&[numbers(&[rows, columns], seed)], |tape, x| tape.softmax(x[0]), |x| reference(&x[0], columns));
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::new([1, 3], vec![1000.0, 1000.0, -1000.0]).unwrap());
        let y = tape.softmax(x).unwrap();
        assert_eq!(tape.value(y).data(), [0.5, 0.5, 0.0]);
    }

    #[test]
    fn not_a_number_stays_visible() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::new([1, 3], vec![0.0, f32::NAN, 1.0]).unwrap());
        let y = tape.softmax(x).unwrap();
        assert!(tape.value(y).data().iter().all(|x| x.is_nan()));
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        check_bits(&[numbers(&[500, 101], 3)], |tape, x| tape.softmax(x[0]));
    }
}

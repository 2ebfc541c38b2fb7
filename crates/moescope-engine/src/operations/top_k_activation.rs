//! Only the strongest entries of a row survive.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `kept[row, k]`, ascending.
struct TopK {
    x: Var,
    k: usize,
    kept: Vec<u32>,
}

impl Tape<'_> {
    /// Keeps the `k` entries of largest magnitude in each row and zeros the others; of equals, the lower index stays.
    ///
    /// The gradient flows through what was kept. The choice itself has no gradient.
    ///
    /// # Errors
    /// [`EngineError::Range`] when `k` is not in `1..=columns`.
    pub fn top_k_activation(&mut self, x: Var, k: usize) -> Result<Var, EngineError> {
        let columns = self.value(x).columns();
        if k == 0 || k > columns {
            let operation = "top_k_activation";
            return Err(EngineError::Range { operation, argument: "k", found: k, low: 1, high: columns });
        }
        let mut out = Tensor::unfilled(self.value(x).shape());
        let mut kept = vec![0; self.value(x).rows() * k]; // [row, k]
        self.device.top_k_activation(self.value(x).data(), columns, k, out.data_mut(), &mut kept);
        Ok(self.record(out, [Some(x), None], TopK { x, k, kept }))
    }
}

impl Operation for TopK {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let device = sweep.device();
        let columns = gradient.columns();
        let mut survivors = Tensor::unfilled([gradient.rows(), self.k]);
        device.gather_columns(gradient.data(), columns, &self.kept, self.k, survivors.data_mut());
        let mut out = gradient;
        device.scatter_columns(survivors.data(), columns, &self.kept, self.k, out.data_mut());
        sweep.add(self.x, out);
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
        let mut data = Vec::new();
        for row in random.data().chunks(columns) {
            let rank = |x: f32| row.iter().filter(|other| other.abs() < x.abs()).count();
            data.extend(row.iter().map(|&x| x.signum() * 0.1 * (1 + rank(x)) as f32));
        }
        Tensor::new([rows, columns], data).unwrap()
    }

    fn reference(x: &[f64], columns: usize, k: usize) -> Vec<f64> {
        let mut out = Vec::new();
        for row in x.chunks(columns) {
            out.extend(row.iter().enumerate().map(|(i, x)| {
                let beats = |(j, y): (usize, &f64)| y.abs() > x.abs() || (y.abs() == x.abs() && j < i);
                if row.iter().enumerate().filter(|&other| beats(other)).count() < k { *x } else { 0.0 }
            }));
        }
        out
    }

    proptest! {
        #[test]
        fn survivors_follow_the_reference(rows in 1usize..4, columns in 1usize..14, pick in 0.0f64..1.0, seed: u64) {
            let k = 1 + (pick * columns as f64) as usize;
            let build = |tape: &mut Tape<'_>, x: &[Var]| tape.top_k_activation(x[0], k);
            check(&[distinct(rows, columns, seed)], build, |x| reference(&x[0], columns, k));
        }
    }

    #[test]
    fn of_equals_the_first_stays() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::new([1, 4], vec![1.0, -2.0, 2.0, -2.0]).unwrap());
        let y = tape.top_k_activation(x, 2).unwrap();
        assert_eq!(tape.value(y).data(), [0.0, -2.0, 2.0, 0.0]);
        assert!(tape.top_k_activation(x, 5).is_err() && tape.top_k_activation(x, 0).is_err());
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        check_bits(&[numbers(&[300, 128], 3)], |tape, x| tape.top_k_activation(x[0], 13));
    }
}

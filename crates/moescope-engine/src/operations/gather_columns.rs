//! Chosen entries of each row.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `indices[row, i]`, which have no gradient themselves.
struct GatherColumns {
    x: Var,
    indices: Vec<u32>,
    per_row: usize,
}

const NAME: &str = "gather_columns";

impl Tape<'_> {
    /// `x[row, indices[row, i]]` as `[row, per_row]`: the scores of chosen experts, say.
    ///
    /// # Errors
    /// [`EngineError::Length`] when there are not `per_row` indices for each row, [`EngineError::Range`] for an index beyond
    /// the row.
    pub fn gather_columns(&mut self, x: Var, indices: &[u32], per_row: usize) -> Result<Var, EngineError> {
        let (rows, columns) = (self.value(x).rows(), self.value(x).columns());
        if indices.len() != rows * per_row {
            let wanted = rows * per_row;
            return Err(EngineError::Length {
                operation: NAME,
                argument: "indices",
                found: indices.len(),
                wanted,
            });
        }
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= columns) {
            let (found, high) = (index as usize, columns.saturating_sub(1));
            return Err(EngineError::Range { operation: NAME, argument: "indices", found, low: 0, high });
        }
        let mut out = Tensor::unfilled([rows, per_row]);
        self.device.gather_columns(self.value(x).data(), columns, indices, per_row, out.data_mut());
        let operation = GatherColumns { x, indices: indices.to_vec(), per_row };
        Ok(self.record(out, [Some(x), None], operation))
    }
}

impl Operation for GatherColumns {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        let columns = out.columns();
        sweep.device().scatter_columns(gradient.data(), columns, &self.indices, self.per_row, out.data_mut());
        sweep.add(self.x, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn choices_follow_the_reference(rows in 1usize..5, columns in 1usize..8, per_row in 1usize..5, seed: u64) {
            let random = numbers(&[rows * per_row], seed ^ 1);
            let scaled = random.data().iter().map(|x| ((x + 1.0) / 2.0 * columns as f32) as u32 % columns as u32);
            let indices: Vec<u32> = scaled.collect();
            let reference = |x: &[Vec<f64>]| -> Vec<f64> {
                let entry = |(i, &index): (usize, &u32)| x[0][i / per_row * columns + index as usize];
                indices.iter().enumerate().map(entry).collect()
            };
            let build = |tape: &mut Tape<'_>, x: &[Var]| tape.gather_columns(x[0], &indices, per_row);
            check(&[numbers(&[rows, columns], seed)], build, reference);
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let indices: Vec<u32> = (0..9000 * 3).map(|i| (i * 7) % 16).collect();
        check_bits(&[numbers(&[9000, 16], 3)], |tape, x| tape.gather_columns(x[0], &indices, 3));
    }

    #[test]
    fn wrong_indices_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::zeros([2, 3]));
        assert!(matches!(tape.gather_columns(x, &[0, 3], 1), Err(EngineError::Range { found: 3, .. })));
        assert!(matches!(tape.gather_columns(x, &[0], 1), Err(EngineError::Length { wanted: 2, .. })));
    }
}

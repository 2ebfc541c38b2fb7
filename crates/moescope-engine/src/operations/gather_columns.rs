//! Chosen entries of each row.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

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

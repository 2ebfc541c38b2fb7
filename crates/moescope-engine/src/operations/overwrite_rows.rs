//! Rows replaced by given ones.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

struct OverwriteRows {
    x: Var,
    rows: Vec<usize>,
}

const NAME: &str = "overwrite_rows";

impl Tape<'_> {
    /// `x` with the named rows replaced by those of `values`; of a row named twice, the last wins.
    ///
    /// The gradient flows to the other rows only: a replaced row no longer depends on `x`.
    ///
    /// # Errors
    /// [`EngineError::Range`] for a row that does not exist, [`EngineError::Length`] when `values` does not hold one row as
    /// wide as `x` for each name.
    pub fn overwrite_rows(&mut self, x: Var, rows: &[usize], values: Tensor) -> Result<Var, EngineError> {
        let (height, width) = (self.value(x).rows(), self.value(x).columns());
        if values.len() != rows.len() * width {
            let (found, wanted) = (values.len(), rows.len() * width);
            return Err(EngineError::Length { operation: NAME, argument: "values", found, wanted });
        }
        if let Some(&found) = rows.iter().find(|&&row| row >= height) {
            let high = height.saturating_sub(1);
            return Err(EngineError::Range { operation: NAME, argument: "rows", found, low: 0, high });
        }
        let mut out = self.value(x).clone();
        for (&row, value) in rows.iter().zip(values.data().chunks_exact(width.max(1))) {
            out.data_mut()[row * width..][..width].copy_from_slice(value);
        }
        Ok(self.record(out, [Some(x), None], OverwriteRows { x, rows: rows.to_vec() }))
    }
}

impl Operation for OverwriteRows {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let width = gradient.columns();
        for &row in &self.rows {
            gradient.data_mut()[row * width..][..width].fill(0.0);
        }
        sweep.add(self.x, gradient);
    }
}

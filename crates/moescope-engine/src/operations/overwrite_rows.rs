//! Rows replaced by given ones.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The replaced rows, whose gradient ends here.
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
    /// `values[i, column]` stands in for row `rows[i]`. `x` itself stays as it is.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    #[test]
    fn replaced_rows_are_constants() {
        let values = Tensor::new([2, 3], vec![9.0; 6]).unwrap();
        let reference = |x: &[Vec<f64>]| {
            let mut out = x[0].clone();
            out[..3].fill(9.0);
            out[6..9].fill(9.0);
            out
        };
        let build = |tape: &mut Tape<'_>, x: &[Var]| tape.overwrite_rows(x[0], &[2, 0], values.clone());
        check(&[numbers(&[4, 3], 1)], build, reference);
    }

    proptest! {
        #[test]
        fn putting_back_the_same_rows_changes_no_value(rows in 1usize..6, columns in 1usize..6, seed: u64) {
            let x = numbers(&[rows, columns], seed);
            let mut tape = Tape::new(crate::Mode::Inference);
            let var = tape.constant(x.clone());
            let last = Tensor::new([1, columns], x.data()[(rows - 1) * columns..].to_vec()).unwrap();
            let same = tape.overwrite_rows(var, &[rows - 1], last).unwrap();
            prop_assert_eq!(tape.value(same), &x);
        }
    }

    #[test]
    fn wrong_rows_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::zeros([2, 3]));
        let missing = tape.overwrite_rows(x, &[2], Tensor::zeros([1, 3]));
        assert!(matches!(missing, Err(EngineError::Range { found: 2, high: 1, .. })));
        let short = tape.overwrite_rows(x, &[0], Tensor::zeros([1, 2]));
        assert!(matches!(short, Err(EngineError::Length { found: 2, wanted: 3, .. })));
    }
}

//! Columns with a factor each, which is a constant.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `factors[column]` are constants: they get no gradient.
struct ScaleColumns {
    x: Var,
    factors: Tensor,
}

impl Tape<'_> {
    /// Each column of `x[row, column]` times its own factor, `factors[column]`; with ones and zeros, a choice of columns.
    ///
    /// # Errors
    /// [`EngineError::Length`] when there is not one factor for each column.
    pub fn scale_columns(&mut self, x: Var, factors: Tensor) -> Result<Var, EngineError> {
        let (found, wanted) = (factors.len(), self.value(x).columns());
        if found != wanted {
            return Err(EngineError::Length {
                operation: "scale_columns",
                argument: "factors",
                found,
                wanted,
            });
        }
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.scale_columns(self.value(x).data(), factors.data(), out.data_mut());
        Ok(self.record(out, [Some(x), None], ScaleColumns { x, factors }))
    }
}

impl Operation for ScaleColumns {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        sweep.device().scale_columns(gradient.data(), self.factors.data(), out.data_mut());
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
        fn products_follow_the_reference(rows in 1usize..5, columns in 1usize..40, seed: u64) {
            let factors = numbers(&[columns], seed ^ 1);
            let reference = |x: &[Vec<f64>]| {
                x[0].iter().zip(factors.data().iter().cycle()).map(|(x, &f)| x * f64::from(f)).collect()
            };
            let build = |tape: &mut Tape<'_>, x: &[Var]| tape.scale_columns(x[0], factors.clone());
            check(&[numbers(&[rows, columns], seed)], build, reference);
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        check_bits(&[numbers(&[900, 61], 1)], |tape, x| tape.scale_columns(x[0], numbers(&[61], 2)));
    }

    #[test]
    fn too_few_factors_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::zeros([2, 3]));
        assert!(matches!(
            tape.scale_columns(x, Tensor::zeros([2])),
            Err(EngineError::Length { wanted: 3, .. })
        ));
    }
}

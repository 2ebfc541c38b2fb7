//! Rows with a factor each.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// Both arguments are kept.
struct ScaleRows {
    x: Var,
    factors: Var,
}

impl Tape<'_> {
    /// Each row of `x[row, column]` times its own factor, `factors[row, 1]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when there is not one factor for each row.
    pub fn scale_rows(&mut self, x: Var, factors: Var) -> Result<Var, EngineError> {
        self.require_shape("scale_rows", "factors", factors, &[self.value(x).rows(), 1])?;
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.scale_rows(self.value(x).data(), self.value(factors).data(), out.data_mut());
        Ok(self.record(out, [Some(x), Some(factors)], ScaleRows { x, factors }))
    }
}

impl Operation for ScaleRows {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        if sweep.wants(self.factors) {
            let mut out = sweep.unfilled_like(self.factors);
            sweep.device().row_products(gradient.data(), sweep.value(self.x).data(), out.data_mut());
            sweep.add(self.factors, out);
        }
        if sweep.wants(self.x) {
            let mut out = sweep.unfilled_like(self.x);
            sweep.device().scale_rows(gradient.data(), sweep.value(self.factors).data(), out.data_mut());
            sweep.add(self.x, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_follow_the_reference(rows in 1usize..5, columns in 1usize..40, seed: u64) {
            let inputs = [numbers(&[rows, columns], seed), numbers(&[rows, 1], seed ^ 1)];
            let reference = |x: &[Vec<f64>]| {
                x[0].chunks(columns).zip(&x[1]).flat_map(|(row, f)| row.iter().map(move |a| a * f)).collect()
            };
            check(&inputs, |tape, vars| tape.scale_rows(vars[0], vars[1]), reference);
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[900, 61], 1), numbers(&[900, 1], 2)];
        check_bits(&inputs, |tape, vars| tape.scale_rows(vars[0], vars[1]));
    }
}

//! A bias added to every row.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// Nothing but the names is kept: both gradients are the upstream one, summed over rows for the bias.
struct AddBias {
    x: Var,
    bias: Var,
}

impl Tape<'_> {
    /// `x + bias` for every row; `bias[column]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the bias is not as long as a row.
    pub fn add_bias(&mut self, x: Var, bias: Var) -> Result<Var, EngineError> {
        self.require_shape("add_bias", "bias", bias, &[self.value(x).columns()])?;
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.add_bias(self.value(x).data(), self.value(bias).data(), out.data_mut());
        Ok(self.record(out, [Some(x), Some(bias)], AddBias { x, bias }))
    }
}

impl Operation for AddBias {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        if sweep.wants(self.bias) {
            let mut out = sweep.unfilled_like(self.bias);
            sweep.device().sum_rows(gradient.data(), out.data_mut());
            sweep.add(self.bias, out);
        }
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_follow_the_reference(rows in 1usize..5, columns in 1usize..9, seed: u64) {
            let inputs = [numbers(&[rows, columns], seed), numbers(&[columns], seed ^ 1)];
            let reference = |x: &[Vec<f64>]| x[0].iter().zip(x[1].iter().cycle()).map(|(a, b)| a + b).collect();
            check(&inputs, |tape, vars| tape.add_bias(vars[0], vars[1]), reference);
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[900, 61], 1), numbers(&[61], 2)];
        check_bits(&inputs, |tape, vars| tape.add_bias(vars[0], vars[1]));
    }
}

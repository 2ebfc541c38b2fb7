//! Rows that sum to one.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The way back starts from the argument: the result alone does not tell its sum.
struct Renormalise {
    x: Var,
}

impl Tape<'_> {
    /// Each row over its sum. A row that sums to zero has no such scale and becomes not-a-number or infinite.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn renormalise(&mut self, x: Var) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.renormalise(self.value(x).data(), self.value(x).columns(), out.data_mut());
        Ok(self.record(out, [Some(x), None], Renormalise { x }))
    }
}

impl Operation for Renormalise {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let columns = gradient.columns();
        sweep.device().renormalise_backward(sweep.value(self.x).data(), columns, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_follow_the_reference(rows in 1usize..5, columns in 1usize..9, seed: u64) {
            let row = |x: &[f64]| x.iter().map(|a| a / x.iter().sum::<f64>()).collect::<Vec<f64>>();
            let reference = |x: &[Vec<f64>]| x[0].chunks(columns).flat_map(row).collect();
            check(&[positive(&[rows, columns], seed)], |tape, x| tape.renormalise(x[0]), reference);
        }
    }
}

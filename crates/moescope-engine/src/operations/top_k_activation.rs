//! Only the strongest entries of a row survive.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

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

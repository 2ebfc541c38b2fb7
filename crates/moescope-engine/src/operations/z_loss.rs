//! How large router logits have grown.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `log_sums[row]`, of which the loss is the mean square.
struct ZLoss {
    logits: Var,
    log_sums: Tensor,
}

impl Tape<'_> {
    /// Mean over rows of `(log Σ exp(logits))²`.
    ///
    /// Adding a constant to all logits of a row changes no routing weight of a softmax, but it changes this loss:
    /// that is its use.
    ///
    /// **Source:** Zoph et al. 2022, "ST-MoE", equation 5.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when there is no row.
    pub fn z_loss(&mut self, logits: Var) -> Result<Var, EngineError> {
        let value = self.value(logits);
        if value.is_empty() {
            let (found, wanted) = (value.shape().to_vec(), "at least one row".into());
            return Err(EngineError::Shape { operation: "z_loss", argument: "logits", found, wanted });
        }
        let mut log_sums = Tensor::unfilled([value.rows()]);
        self.device.log_sum_exp(value.data(), value.columns(), log_sums.data_mut());
        let squares: f64 = log_sums.data().iter().map(|&sum| f64::from(sum).powi(2)).sum();
        let loss = Tensor::scalar((squares / value.rows() as f64) as f32);
        Ok(self.record(loss, [Some(logits), None], ZLoss { logits, log_sums }))
    }
}

impl Operation for ZLoss {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.logits);
        let mut factors = Tensor::unfilled(self.log_sums.shape());
        let scale = 2.0 * gradient.data()[0] / self.log_sums.len() as f32;
        sweep.device().scale(self.log_sums.data(), scale, factors.data_mut());
        let logits = sweep.value(self.logits).data();
        sweep.device().scaled_softmax(logits, self.log_sums.data(), factors.data(), None, out.data_mut());
        sweep.add(self.logits, out);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(logits: &[f64], columns: usize) -> Vec<f64> {
        let squares = logits.chunks(columns).map(|row| row.iter().map(|x| x.exp()).sum::<f64>().ln().powi(2));
        vec![squares.sum::<f64>() / (logits.len() / columns) as f64]
    }

    proptest! {
        #[test]
        fn losses_follow_the_reference(rows in 1usize..6, columns in 1usize..40, seed: u64) {
            check(&[numbers(&[rows, columns], seed)], |tape, x| tape.z_loss(x[0]), |x| reference(&x[0], columns));
        }
    }
}

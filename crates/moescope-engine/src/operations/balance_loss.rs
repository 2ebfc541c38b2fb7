//! How far the load is from even.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

struct BalanceLoss {
    scores: Var,
    plan: Arc<RoutePlan>,
}

impl Tape<'_> {
    /// `n Σ_i f_i P_i`: `f_i` is the share of all slots that expert `i` received, `P_i` the mean over tokens of its share of
    /// the token's `scores[token, expert]`.
    ///
    /// One at perfect balance, whatever `k`; `n` when all goes to one expert. The gradient flows through `P` alone, since a
    /// count has none.
    ///
    /// **Source:** Fedus et al. 2022, "Switch Transformers", equation 4, with `f` over slots in place of tokens.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the scores do not fit the plan.
    pub fn balance_loss(&mut self, scores: Var, plan: &Arc<RoutePlan>) -> Result<Var, EngineError> {
        self.require_shape("balance_loss", "scores", scores, &[plan.tokens(), plan.experts()])?;
        let loss = self.device.balance_loss(self.value(scores).data(), plan);
        let operation = BalanceLoss { scores, plan: Arc::clone(plan) };
        Ok(self.record(Tensor::scalar(loss), [Some(scores), None], operation))
    }
}

impl Operation for BalanceLoss {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.scores);
        let scores = sweep.value(self.scores).data();
        sweep.device().balance_loss_backward(scores, &self.plan, gradient.data()[0], out.data_mut());
        sweep.add(self.scores, out);
    }
}

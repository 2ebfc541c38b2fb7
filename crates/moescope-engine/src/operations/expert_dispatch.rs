//! Tokens sent to their experts.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

struct ExpertDispatch {
    x: Var,
    plan: Arc<RoutePlan>,
}

impl Tape<'_> {
    /// The rows of `x[token, width]` in the order of the plan's slot rows: `[slot_row, width]`, sorted by expert, then token.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when `x` does not have one row for each token of the plan.
    pub fn expert_dispatch(&mut self, x: Var, plan: &Arc<RoutePlan>) -> Result<Var, EngineError> {
        let width = self.value(x).columns();
        self.require_shape("expert_dispatch", "x", x, &[plan.tokens(), width])?;
        let mut out = Tensor::unfilled([plan.rows(), width]);
        self.device.expert_dispatch(self.value(x).data(), plan, out.data_mut());
        Ok(self.record(out, [Some(x), None], ExpertDispatch { x, plan: Arc::clone(plan) }))
    }
}

impl Operation for ExpertDispatch {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        sweep.device().expert_dispatch_backward(gradient.data(), &self.plan, out.data_mut());
        sweep.add(self.x, out);
    }
}

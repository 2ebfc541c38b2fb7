//! The experts' answers, weighted and put together.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

struct ExpertCombine {
    rows: Var,
    weights: Var,
    plan: Arc<RoutePlan>,
}

const NAME: &str = "expert_combine";

impl Tape<'_> {
    /// `Σ_slot weights[token, slot] * rows[slot_row, width]` for each token, in slot order: `[token, width]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when rows or weights do not fit the plan.
    pub fn expert_combine(
        &mut self,
        rows: Var,
        weights: Var,
        plan: &Arc<RoutePlan>,
    ) -> Result<Var, EngineError> {
        let width = self.value(rows).columns();
        self.require_shape(NAME, "rows", rows, &[plan.rows(), width])?;
        self.require_shape(NAME, "weights", weights, &[plan.tokens(), plan.per_token()])?;
        let mut out = Tensor::unfilled([plan.tokens(), width]);
        let (row_data, weight_data) = (self.value(rows).data(), self.value(weights).data());
        self.device.expert_combine(row_data, weight_data, plan, out.data_mut());
        let operation = ExpertCombine { rows, weights, plan: Arc::clone(plan) };
        Ok(self.record(out, [Some(rows), Some(weights)], operation))
    }
}

impl Operation for ExpertCombine {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut rows_gradient = sweep.wants(self.rows).then(|| sweep.unfilled_like(self.rows));
        let mut weights_gradient = sweep.wants(self.weights).then(|| sweep.unfilled_like(self.weights));
        sweep.device().expert_combine_backward(
            sweep.value(self.rows).data(),
            sweep.value(self.weights).data(),
            &self.plan,
            gradient.data(),
            rows_gradient.as_mut().map(Tensor::data_mut),
            weights_gradient.as_mut().map(Tensor::data_mut),
        );
        if let Some(rows_gradient) = rows_gradient {
            sweep.add(self.rows, rows_gradient);
        }
        if let Some(weights_gradient) = weights_gradient {
            sweep.add(self.weights, weights_gradient);
        }
    }
}

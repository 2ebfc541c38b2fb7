//! Every expert's dense product, in one sweep.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, LinearShape, RoutePlan, Tape, Tensor, Var};

struct ExpertLinear {
    rows: Var,
    weight: Var,
    plan: Arc<RoutePlan>,
    shape: LinearShape,
}

const NAME: &str = "expert_linear";

impl Tape<'_> {
    /// Every slot row times the matrix of its expert: `rows[slot_row, input]`, `weight[expert, output, input]` →
    /// `[slot_row, output]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when rows or weights do not fit the plan or each other.
    pub fn expert_linear(
        &mut self,
        rows: Var,
        weight: Var,
        plan: &Arc<RoutePlan>,
    ) -> Result<Var, EngineError> {
        let inputs = self.value(rows).columns();
        self.require_shape(NAME, "rows", rows, &[plan.rows(), inputs])?;
        let outputs = self.value(weight).shape().get(1).copied().unwrap_or(0);
        self.require_shape(NAME, "weight", weight, &[plan.experts(), outputs, inputs])?;
        let shape = LinearShape { rows: plan.rows(), inputs, outputs };
        let mut out = Tensor::unfilled([plan.rows(), outputs]);
        let (row_data, weight_data) = (self.value(rows).data(), self.value(weight).data());
        self.device.expert_linear(row_data, weight_data, plan, shape, out.data_mut());
        let operation = ExpertLinear { rows, weight, plan: Arc::clone(plan), shape };
        Ok(self.record(out, [Some(rows), Some(weight)], operation))
    }
}

impl Operation for ExpertLinear {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let (device, plan) = (sweep.device(), &self.plan);
        if sweep.wants(self.weight) {
            let (mut out, started) = sweep.open(self.weight);
            let rows = sweep.value(self.rows).data();
            device.expert_linear_weight(gradient.data(), rows, plan, self.shape, out.data_mut(), started);
            sweep.put(self.weight, out);
        }
        if sweep.wants(self.rows) {
            let (mut out, started) = sweep.open(self.rows);
            let weight = sweep.value(self.weight).data();
            device.expert_linear_input(gradient.data(), weight, plan, self.shape, out.data_mut(), started);
            sweep.put(self.rows, out);
        }
    }
}

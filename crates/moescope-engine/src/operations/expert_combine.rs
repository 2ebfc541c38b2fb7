//! The experts' answers, weighted and put together.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

/// Both arguments may want a gradient: that of `weights` is how the router learns from the loss.
struct ExpertCombine {
    rows: Var,
    weights: Var,
    plan: Arc<RoutePlan>,
}

const NAME: &str = "expert_combine";

impl Tape<'_> {
    /// `Σ_slot weights[token, slot] * rows[slot_row, width]` for each token, by ascending expert: `[token, width]`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], plan: &RoutePlan, width: usize) -> Vec<f64> {
        let mut out = vec![0.0; plan.tokens() * width];
        for (slot, &row) in plan.row_of_slot().iter().enumerate() {
            for column in 0..width {
                out[slot / plan.per_token() * width + column] +=
                    x[1][slot] * x[0][row as usize * width + column];
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sums_follow_the_reference(tokens in 1usize..6, experts in 1usize..5, pick in 0.0f64..1.0, width in 1usize..6, seed: u64) {
            let per_token = 1 + (pick * experts as f64) as usize;
            let plan = RoutePlan::new(&choices(tokens, experts, per_token, seed), experts, per_token).unwrap();
            let plan = Arc::new(plan);
            let tensors = [numbers(&[plan.rows(), width], seed), numbers(&[tokens, per_token], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_combine(vars[0], vars[1], &plan);
            check(&tensors, build, |x| reference(x, &plan, width));
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let plan = Arc::new(RoutePlan::new(&choices(700, 9, 3, 1), 9, 3).unwrap());
        let tensors = [numbers(&[2100, 40], 2), numbers(&[700, 3], 3)];
        check_bits(&tensors, |tape, vars| tape.expert_combine(vars[0], vars[1], &plan));
    }
}

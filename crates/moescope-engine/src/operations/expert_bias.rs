//! A bias of each expert, added to its slot rows.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

/// The plan says which rows are whose.
struct AddExpertBias {
    rows: Var,
    bias: Var,
    plan: Arc<RoutePlan>,
}

const NAME: &str = "add_expert_bias";

impl Tape<'_> {
    /// Each slot row plus the bias of its expert: `rows[slot_row, column]`, `bias[expert, column]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when rows or bias do not fit the plan.
    pub fn add_expert_bias(
        &mut self,
        rows: Var,
        bias: Var,
        plan: &Arc<RoutePlan>,
    ) -> Result<Var, EngineError> {
        let columns = self.value(rows).columns();
        self.require_shape(NAME, "rows", rows, &[plan.rows(), columns])?;
        self.require_shape(NAME, "bias", bias, &[plan.experts(), columns])?;
        let mut out = Tensor::unfilled(self.value(rows).shape());
        self.device.add_expert_bias(self.value(rows).data(), self.value(bias).data(), plan, out.data_mut());
        let operation = AddExpertBias { rows, bias, plan: Arc::clone(plan) };
        Ok(self.record(out, [Some(rows), Some(bias)], operation))
    }
}

impl Operation for AddExpertBias {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        if sweep.wants(self.bias) {
            let mut out = sweep.unfilled_like(self.bias);
            sweep.device().sum_expert_rows(gradient.data(), &self.plan, out.data_mut());
            sweep.add(self.bias, out);
        }
        sweep.add(self.rows, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], plan: &RoutePlan, columns: usize) -> Vec<f64> {
        let expert = |row: usize| (0..plan.experts()).find(|&e| row < plan.offsets()[e + 1]).unwrap();
        let entry = |i: usize| x[0][i] + x[1][expert(i / columns) * columns + i % columns];
        (0..x[0].len()).map(entry).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn sums_follow_the_reference(tokens in 1usize..7, experts in 1usize..6, pick in 0.0f64..1.0, columns in 1usize..6, seed: u64) {
            let per_token = 1 + (pick * experts as f64) as usize;
            let plan = RoutePlan::new(&choices(tokens, experts, per_token, seed), experts, per_token).unwrap();
            let plan = Arc::new(plan);
            let inputs = [numbers(&[plan.rows(), columns], seed), numbers(&[experts, columns], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.add_expert_bias(vars[0], vars[1], &plan);
            check(&inputs, build, |x| reference(x, &plan, columns));
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let plan = Arc::new(RoutePlan::new(&choices(900, 5, 2, 1), 5, 2).unwrap());
        let inputs = [numbers(&[1800, 61], 1), numbers(&[5, 61], 2)];
        check_bits(&inputs, |tape, vars| tape.add_expert_bias(vars[0], vars[1], &plan));
    }
}

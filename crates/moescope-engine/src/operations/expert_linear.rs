//! Every expert's dense product, in one sweep.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, LinearShape, RoutePlan, Tape, Tensor, Var};

/// `shape.rows` are slot rows.
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
    /// An expert without tokens is skipped, and its weights get a gradient of zero, not none.
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
            let (mut out, started) = sweep.open_experts(self.weight, plan);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], plan: &RoutePlan, inputs: usize, outputs: usize) -> Vec<f64> {
        let mut out = Vec::new();
        for (row, x_row) in x[0].chunks(inputs).enumerate() {
            let expert = (0..plan.experts()).find(|&expert| row < plan.offsets()[expert + 1]).unwrap();
            let matrix = &x[1][expert * outputs * inputs..][..outputs * inputs];
            out.extend(matrix.chunks(inputs).map(|w| w.iter().zip(x_row).map(|(a, b)| a * b).sum::<f64>()));
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_follow_the_reference(
            tokens in 1usize..7, experts in 1usize..5, pick in 0.0f64..1.0, inputs in 1usize..6, outputs in 1usize..6, seed: u64,
        ) {
            let per_token = 1 + (pick * experts as f64) as usize;
            let chosen = choices(tokens, experts, per_token, seed);
            let plan = Arc::new(RoutePlan::new(&chosen, experts, per_token).unwrap());
            let tensors = [numbers(&[plan.rows(), inputs], seed), numbers(&[experts, outputs, inputs], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_linear(vars[0], vars[1], &plan);
            check(&tensors, build, |x| reference(x, &plan, inputs, outputs));
        }
    }

    #[test]
    fn an_expert_without_tokens_has_a_gradient_of_zero() {
        let plan = Arc::new(RoutePlan::new(&[0, 2, 0], 3, 1).unwrap());
        let tensors = [numbers(&[3, 2], 1), numbers(&[3, 4, 2], 2)];
        let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_linear(vars[0], vars[1], &plan);
        let (_, gradients) = outcome(&tensors, &build);
        assert_eq!(gradients[1].as_ref().unwrap().data()[8..16], [0.0; 8]);
    }

    #[test]
    fn many_tiles_have_the_same_bits_on_any_number_of_threads() {
        let plan = Arc::new(RoutePlan::new(&choices(900, 5, 2, 1), 5, 2).unwrap());
        let tensors = [numbers(&[1800, 19], 2), numbers(&[5, 300, 19], 3)];
        check_bits(&tensors, |tape, vars| tape.expert_linear(vars[0], vars[1], &plan));
    }

    #[test]
    fn weights_for_other_experts_are_refused() {
        let plan = Arc::new(RoutePlan::new(&[0, 1], 2, 1).unwrap());
        let mut tape = Tape::new(crate::Mode::Inference);
        let (rows, weight) = (tape.constant(Tensor::zeros([2, 3])), tape.constant(Tensor::zeros([3, 4, 3])));
        assert!(matches!(tape.expert_linear(rows, weight, &plan), Err(EngineError::Shape { .. })));
        let flat = tape.constant(Tensor::zeros([6]));
        assert!(matches!(tape.expert_linear(rows, flat, &plan), Err(EngineError::Shape { .. })));
    }
}

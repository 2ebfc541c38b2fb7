//! Tokens to their experts and through a first matrix.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, LinearShape, RoutePlan, Tape, Tensor, Var};

/// `shape.rows` are slot rows. Token rows are gathered again on the way back, which is cheaper than keeping the copies.
struct ExpertInput {
    x: Var,
    weight: Var,
    plan: Arc<RoutePlan>,
    shape: LinearShape,
}

const NAME: &str = "expert_input";

impl Tape<'_> {
    /// Each slot row's token row times the matrix of its expert: `x[token, input]`, `weight[expert, output, input]` →
    /// `[slot_row, output]`, sorted by expert, then token.
    ///
    /// An expert without tokens is skipped, and its weights get a gradient of zero, not none.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when `x` does not have one row for each token of the plan, or the weights do not fit.
    pub fn expert_input(&mut self, x: Var, weight: Var, plan: &Arc<RoutePlan>) -> Result<Var, EngineError> {
        let inputs = self.value(x).columns();
        self.require_shape(NAME, "x", x, &[plan.tokens(), inputs])?;
        let outputs = self.value(weight).shape().get(1).copied().unwrap_or(0);
        self.require_shape(NAME, "weight", weight, &[plan.experts(), outputs, inputs])?;
        let shape = LinearShape { rows: plan.rows(), inputs, outputs };
        let mut out = Tensor::unfilled([plan.rows(), outputs]);
        self.device.expert_input(
            self.value(x).data(),
            self.value(weight).data(),
            plan,
            shape,
            out.data_mut(),
        );
        let operation = ExpertInput { x, weight, plan: Arc::clone(plan), shape };
        Ok(self.record(out, [Some(x), Some(weight)], operation))
    }
}

impl Operation for ExpertInput {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let (device, plan) = (sweep.device(), &self.plan);
        if sweep.wants(self.weight) {
            let (mut out, started) = sweep.open_experts(self.weight, plan);
            let x = sweep.value(self.x).data();
            device.expert_input_weight(gradient.data(), x, plan, self.shape, out.data_mut(), started);
            sweep.put(self.weight, out);
        }
        if sweep.wants(self.x) {
            let (mut out, started) = sweep.open(self.x);
            let weight = sweep.value(self.weight).data();
            device.expert_input_tokens(gradient.data(), weight, plan, self.shape, out.data_mut(), started);
            sweep.put(self.x, out);
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
        for (row, &token) in plan.row_tokens().iter().enumerate() {
            let expert = (0..plan.experts()).find(|&expert| row < plan.offsets()[expert + 1]).unwrap();
            let matrix = &x[1][expert * outputs * inputs..][..outputs * inputs];
            let x_row = &x[0][token as usize * inputs..][..inputs];
            out.extend(matrix.chunks(inputs).map(|w| w.iter().zip(x_row).map(|(a, b)| a * b).sum::<f64>()));
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_follow_the_reference(
            tokens in 1usize..7, experts in 1usize..6, pick in 0.0f64..=1.0, inputs in 1usize..6, outputs in 1usize..6, seed: u64,
        ) {
            let per_token = (1 + (pick * experts as f64) as usize).min(experts);
            let plan = RoutePlan::new(&choices(tokens, experts, per_token, seed), experts, per_token).unwrap();
            let plan = Arc::new(plan);
            let tensors = [numbers(&[tokens, inputs], seed), numbers(&[experts, outputs, inputs], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_input(vars[0], vars[1], &plan);
            check(&tensors, build, |x| reference(x, &plan, inputs, outputs));
        }
    }

    #[test]
    fn an_expert_without_tokens_has_a_gradient_of_zero() {
        let plan = Arc::new(RoutePlan::new(&[0, 2, 0], 3, 1).unwrap());
        let tensors = [numbers(&[3, 2], 1), numbers(&[3, 4, 2], 2)];
        let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_input(vars[0], vars[1], &plan);
        let (_, gradients) = outcome(&tensors, &build);
        assert_eq!(gradients[1].as_ref().unwrap().data()[8..16], [0.0; 8]);
    }

    /// With most experts idle the gradient begins as zeros and is added to; what was reached is told.
    #[test]
    fn the_experts_that_were_chosen_are_what_the_loss_reached() {
        let plan = Arc::new(RoutePlan::new(&[5, 1, 5], 6, 1).unwrap());
        let [x, weight, tied] = [numbers(&[3, 2], 1), numbers(&[6, 4, 2], 2), numbers(&[6, 4, 2], 3)];
        let ids = [0, 1, 2].map(crate::ParameterId);
        let mut tape = Tape::new(crate::Mode::Gradient);
        let (x, weight) = (tape.parameter(ids[0], &x), tape.parameter(ids[1], &weight));
        let tied = tape.parameter(ids[2], &tied);
        let rows = tape.expert_input(x, weight, &plan).unwrap();
        let others = tape.expert_input(x, tied, &plan).unwrap();
        let twice = tape.scale(tied, 2.0).unwrap();
        let sums = [(rows, 12), (others, 12), (twice, 48)].map(|(var, length)| {
            let ones = Tensor::full(tape.value(var).shape(), 1.0);
            assert_eq!(ones.len(), length);
            tape.sum_product(var, ones).unwrap()
        });
        let loss = tape.add(sums[0], sums[1]).unwrap();
        let loss = tape.add(loss, sums[2]).unwrap();
        let gradients = tape.backward(loss).unwrap();
        assert_eq!(gradients.reached(ids[0]), std::slice::from_ref(&(0..6)));
        assert_eq!(gradients.reached(ids[1]), [8..16, 40..48]);
        assert_eq!(gradients.reached(ids[2]), std::slice::from_ref(&(0..48)));
        let data = gradients.parameter(ids[1]).unwrap().data();
        let reached = gradients.reached(ids[1]);
        assert!((0..48).all(|at| (data[at] != 0.0) == reached.iter().any(|range| range.contains(&at))));
    }

    #[test]
    fn many_shares_have_the_same_bits_on_any_number_of_threads() {
        let plan = Arc::new(RoutePlan::new(&choices(900, 5, 2, 1), 5, 2).unwrap());
        let tensors = [numbers(&[900, 19], 2), numbers(&[5, 300, 19], 3)];
        check_bits(&tensors, |tape, vars| tape.expert_input(vars[0], vars[1], &plan));
    }

    #[test]
    fn tokens_of_another_plan_are_refused() {
        let plan = Arc::new(RoutePlan::new(&[0, 1], 2, 1).unwrap());
        let mut tape = Tape::new(crate::Mode::Inference);
        let (x, weight) = (tape.constant(Tensor::zeros([3, 3])), tape.constant(Tensor::zeros([2, 4, 3])));
        assert!(matches!(tape.expert_input(x, weight, &plan), Err(EngineError::Shape { .. })));
    }
}

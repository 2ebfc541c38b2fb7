//! The experts' last matrix and the weighted sum of their answers, at once.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, LinearShape, RoutePlan, Tape, Tensor, Var};

/// `shape.rows` are slot rows. The experts' answers are never stored: the way back needs only what went in.
struct ExpertOutput {
    rows: Var,
    weight: Var,
    factors: Var,
    plan: Arc<RoutePlan>,
    shape: LinearShape,
}

const NAME: &str = "expert_output";

impl Tape<'_> {
    /// Every slot row times the matrix of its expert, weighted and summed for each token: `rows[slot_row, input]`,
    /// `weight[expert, output, input]`, `factors[token, slot]` → `[token, output]`.
    ///
    /// The same bits as [`expert_linear`](Self::expert_linear) and then [`expert_combine`](Self::expert_combine), which one
    /// needs where the answers of single experts are looked at or changed. Gradients sum in another order, `factors` over inputs
    /// rather than outputs and rows before they are weighted, so their last bits may differ.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when rows, weights or factors do not fit the plan or each other.
    pub fn expert_output(
        &mut self,
        rows: Var,
        weight: Var,
        factors: Var,
        plan: &Arc<RoutePlan>,
    ) -> Result<Var, EngineError> {
        let inputs = self.value(rows).columns();
        self.require_shape(NAME, "rows", rows, &[plan.rows(), inputs])?;
        let outputs = self.value(weight).shape().get(1).copied().unwrap_or(0);
        self.require_shape(NAME, "weight", weight, &[plan.experts(), outputs, inputs])?;
        self.require_shape(NAME, "factors", factors, &[plan.tokens(), plan.per_token()])?;
        let shape = LinearShape { rows: plan.rows(), inputs, outputs };
        let mut out = Tensor::unfilled([plan.tokens(), outputs]);
        let [row_data, weight_data, factor_data] = [rows, weight, factors].map(|var| self.value(var).data());
        self.device.expert_output(row_data, weight_data, factor_data, plan, shape, out.data_mut());
        let operation = ExpertOutput { rows, weight, factors, plan: Arc::clone(plan), shape };
        Ok(self.record(out, [Some(rows), Some(weight), Some(factors)], operation))
    }
}

impl Operation for ExpertOutput {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let (device, plan) = (sweep.device(), &self.plan);
        if sweep.wants(self.weight) {
            let (mut out, started) = sweep.open_experts(self.weight, plan);
            let (rows, factors) = (sweep.value(self.rows).data(), sweep.value(self.factors).data());
            device.expert_output_weight(
                gradient.data(),
                rows,
                factors,
                plan,
                self.shape,
                out.data_mut(),
                started,
            );
            sweep.put(self.weight, out);
        }
        if !sweep.wants(self.rows) && !sweep.wants(self.factors) {
            return;
        }
        let mut rows_gradient = sweep.unfilled_like(self.rows);
        let mut factors_gradient = sweep.wants(self.factors).then(|| sweep.unfilled_like(self.factors));
        device.expert_output_backward(
            gradient.data(),
            sweep.value(self.rows).data(),
            sweep.value(self.weight).data(),
            sweep.value(self.factors).data(),
            plan,
            self.shape,
            rows_gradient.data_mut(),
            factors_gradient.as_mut().map(Tensor::data_mut),
        );
        sweep.add(self.rows, rows_gradient);
        if let Some(factors_gradient) = factors_gradient {
            sweep.add(self.factors, factors_gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], plan: &RoutePlan, inputs: usize, outputs: usize) -> Vec<f64> {
        let mut out = vec![0.0; plan.tokens() * outputs];
        for (slot, (&row, &expert)) in plan.row_of_slot().iter().zip(plan.choices()).enumerate() {
            let matrix = &x[1][expert as usize * outputs * inputs..][..outputs * inputs];
            let x_row = &x[0][row as usize * inputs..][..inputs];
            let out = &mut out[slot / plan.per_token() * outputs..][..outputs];
            for (out, w) in out.iter_mut().zip(matrix.chunks(inputs)) {
                *out += x[2][slot] * w.iter().zip(x_row).map(|(a, b)| a * b).sum::<f64>();
            }
        }
        out
    }

    fn inputs(plan: &RoutePlan, [inputs, outputs]: [usize; 2], seed: u64) -> [Tensor; 3] {
        [
            numbers(&[plan.rows(), inputs], seed),
            numbers(&[plan.experts(), outputs, inputs], seed ^ 1),
            numbers(&[plan.tokens(), plan.per_token()], seed ^ 2),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sums_follow_the_reference(
            tokens in 1usize..7, experts in 1usize..6, pick in 0.0f64..=1.0, width in 1usize..6, outputs in 1usize..6, seed: u64,
        ) {
            let per_token = (1 + (pick * experts as f64) as usize).min(experts);
            let plan = RoutePlan::new(&choices(tokens, experts, per_token, seed), experts, per_token).unwrap();
            let plan = Arc::new(plan);
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_output(vars[0], vars[1], vars[2], &plan);
            check(&inputs(&plan, [width, outputs], seed), build, |x| reference(x, &plan, width, outputs));
        }
    }

    #[test]
    fn many_shares_have_the_same_bits_on_any_number_of_threads() {
        let plan = Arc::new(RoutePlan::new(&choices(900, 7, 3, 1), 7, 3).unwrap());
        let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.expert_output(vars[0], vars[1], vars[2], &plan);
        check_bits(&inputs(&plan, [19, 300], 2), build);
    }

    #[test]
    fn one_operation_has_the_bits_of_product_and_combination() {
        for (tokens, experts, per_token, width, outputs) in
            [(1, 1, 1, 1, 1), (700, 9, 3, 17, 41), (300, 5, 5, 32, 256)]
        {
            let chosen = choices(tokens, experts, per_token, 3);
            let plan = Arc::new(RoutePlan::new(&chosen, experts, per_token).unwrap());
            let mut tape = Tape::new(crate::Mode::Inference);
            let [rows, weight, factors] =
                inputs(&plan, [width, outputs], 4).map(|tensor| tape.constant(tensor));
            let at_once = tape.expert_output(rows, weight, factors, &plan).unwrap();
            let answers = tape.expert_linear(rows, weight, &plan).unwrap();
            let apart = tape.expert_combine(answers, factors, &plan).unwrap();
            assert_eq!(tape.value(at_once), tape.value(apart));
        }
    }

    #[test]
    fn factors_of_another_plan_are_refused() {
        let plan = Arc::new(RoutePlan::new(&[0, 1], 2, 1).unwrap());
        let mut tape = Tape::new(crate::Mode::Inference);
        let shapes = [vec![2, 3], vec![2, 4, 3], vec![2, 2]];
        let [rows, weight, factors] = shapes.map(|shape| tape.constant(Tensor::zeros(shape)));
        assert!(matches!(tape.expert_output(rows, weight, factors, &plan), Err(EngineError::Shape { .. })));
    }
}

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
    /// What it does not show: whether single tokens are sure of their experts. A router with even scores for every
    /// token and one with a sure and even choice both have the value one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(scores: &[f64], plan: &RoutePlan) -> Vec<f64> {
        let n = plan.experts();
        let mut loss = 0.0;
        for expert in 0..n {
            let chosen = plan.choices().iter().filter(|&&choice| choice as usize == expert).count();
            let share: f64 = scores.chunks(n).map(|row| row[expert] / row.iter().sum::<f64>()).sum();
            loss += chosen as f64 / plan.choices().len() as f64 * share / plan.tokens() as f64;
        }
        vec![n as f64 * loss]
    }

    proptest! {
        #[test]
        fn losses_follow_the_reference(tokens in 1usize..7, experts in 1usize..7, pick in 0.0f64..1.0, seed: u64) {
            let per_token = 1 + (pick * experts as f64) as usize;
            let plan = RoutePlan::new(&choices(tokens, experts, per_token, seed), experts, per_token).unwrap();
            let plan = Arc::new(plan);
            let scores = positive(&[tokens, experts], seed);
            check(&[scores], |tape, x| tape.balance_loss(x[0], &plan), |x| reference(&x[0], &plan));
        }
    }

    #[test]
    fn it_is_one_when_even_and_the_number_of_experts_when_collapsed() {
        for (choices, row, wanted) in
            [([0u32, 1, 2, 3], [0.25f32, 0.25, 0.25, 0.25], 1.0), ([1, 1, 1, 1], [0.0, 1.0, 0.0, 0.0], 4.0)]
        {
            let plan = Arc::new(RoutePlan::new(&choices, 4, 1).unwrap());
            let mut tape = Tape::new(crate::Mode::Inference);
            let scores = tape.constant(Tensor::new([4, 4], row.repeat(4)).unwrap());
            let loss = tape.balance_loss(scores, &plan).unwrap();
            assert_eq!(tape.value(loss).data(), [wanted]);
        }
    }
}

//! Tokens sent to their experts.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

/// The plan alone: a copy needs no values on the way back.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_follow_the_reference(tokens in 1usize..7, experts in 1usize..6, pick in 0.0f64..1.0, width in 1usize..5, seed: u64) {
            let per_token = 1 + (pick * experts as f64) as usize;
            let chosen = choices(tokens, experts, per_token, seed);
            let plan = Arc::new(RoutePlan::new(&chosen, experts, per_token).unwrap());
            let reference = |x: &[Vec<f64>]| -> Vec<f64> {
                let mut out = Vec::new();
                for expert in 0..experts as u32 {
                    for slot in (0..chosen.len()).filter(|&slot| chosen[slot] == expert) {
                        out.extend(&x[0][slot / per_token * width..][..width]);
                    }
                }
                out
            };
            check(&[numbers(&[tokens, width], seed)], |tape, x| tape.expert_dispatch(x[0], &plan), reference);
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let plan = Arc::new(RoutePlan::new(&choices(600, 16, 4, 1), 16, 4).unwrap());
        check_bits(&[numbers(&[600, 33], 2)], |tape, x| tape.expert_dispatch(x[0], &plan));
    }
}

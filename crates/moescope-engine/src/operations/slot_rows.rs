//! Slot rows in the order of tokens and slots, and back.

use std::sync::Arc;

use crate::backward::{Operation, Sweep};
use crate::{EngineError, RoutePlan, Tape, Tensor, Var};

/// Either way; the way back is the other.
struct Reorder {
    x: Var,
    plan: Arc<RoutePlan>,
    to_tokens: bool,
}

impl Tape<'_> {
    /// The rows of each token's slots side by side: `rows[slot_row, width]` → `[token, slot * width]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the rows do not fit the plan.
    pub fn rows_to_slots(&mut self, rows: Var, plan: &Arc<RoutePlan>) -> Result<Var, EngineError> {
        let width = self.value(rows).columns();
        self.require_shape("rows_to_slots", "rows", rows, &[plan.rows(), width])?;
        let mut out = Tensor::unfilled([plan.tokens(), plan.per_token() * width]);
        self.device.reorder_rows(self.value(rows).data(), plan.row_of_slot(), out.data_mut());
        Ok(self.record(out, [Some(rows), None], Reorder { x: rows, plan: Arc::clone(plan), to_tokens: true }))
    }

    /// The same backwards: `x[token, slot * width]` → `[slot_row, width]`, sorted by expert.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the slots do not share out the width, or there is not a row for each token.
    pub fn slots_to_rows(&mut self, x: Var, plan: &Arc<RoutePlan>) -> Result<Var, EngineError> {
        let width = self.value(x).columns() / plan.per_token();
        self.require_shape("slots_to_rows", "x", x, &[plan.tokens(), plan.per_token() * width])?;
        let mut out = Tensor::unfilled([plan.rows(), width]);
        self.device.reorder_rows(self.value(x).data(), plan.slot_of_row(), out.data_mut());
        Ok(self.record(out, [Some(x), None], Reorder { x, plan: Arc::clone(plan), to_tokens: false }))
    }
}

impl Operation for Reorder {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        let names = if self.to_tokens { self.plan.slot_of_row() } else { self.plan.row_of_slot() };
        sweep.device().reorder_rows(gradient.data(), names, out.data_mut());
        sweep.add(self.x, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_ways_follow_the_plan(tokens in 1usize..7, experts in 1usize..6, pick in 0.0f64..1.0, width in 1usize..5, seed: u64) {
            let per_token = 1 + (pick * experts as f64) as usize;
            let plan = RoutePlan::new(&choices(tokens, experts, per_token, seed), experts, per_token).unwrap();
            let plan = Arc::new(plan);
            let reorder = |x: &[f64], names: &[u32]| -> Vec<f64> {
                names.iter().flat_map(|row| x[*row as usize * width..][..width].to_vec()).collect()
            };
            let rows = [numbers(&[plan.rows(), width], seed)];
            check(&rows, |tape, x| tape.rows_to_slots(x[0], &plan), |x| reorder(&x[0], plan.row_of_slot()));
            let slots = [numbers(&[tokens, per_token * width], seed)];
            check(&slots, |tape, x| tape.slots_to_rows(x[0], &plan), |x| reorder(&x[0], plan.slot_of_row()));
        }
    }

    #[test]
    fn there_and_back_changes_nothing() {
        let plan = Arc::new(RoutePlan::new(&choices(900, 7, 3, 1), 7, 3).unwrap());
        let mut tape = Tape::new(crate::Mode::Inference);
        let rows = tape.constant(numbers(&[2700, 5], 2));
        let slots = tape.rows_to_slots(rows, &plan).unwrap();
        let back = tape.slots_to_rows(slots, &plan).unwrap();
        assert_eq!(tape.value(rows), tape.value(back));
    }
}

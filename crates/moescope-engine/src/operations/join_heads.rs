//! Heads put together from a part of their own and a part that all share.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// No value is kept: both parts are copies.
struct JoinHeads {
    own: Var,
    shared: Var,
    heads: usize,
}

const NAME: &str = "join_heads";

impl Tape<'_> {
    /// `own[token, head * first]` and `shared[token, second]` → `[token, head * (first + second)]`: each head is its own part,
    /// then the shared one. DeepSeek's keys are made so: the part that turns with the position is one for all heads.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the rows differ in number or the heads do not share out the width.
    pub fn join_heads(&mut self, own: Var, shared: Var, heads: usize) -> Result<Var, EngineError> {
        let (tokens, width) = (self.value(own).rows(), self.value(own).columns());
        if heads == 0 || !width.is_multiple_of(heads) {
            let found = self.value(own).shape().to_vec();
            let wanted = format!("[token, a multiple of {heads} heads]");
            return Err(EngineError::Shape { operation: NAME, argument: "own", found, wanted });
        }
        let second = self.value(shared).columns();
        self.require_shape(NAME, "shared", shared, &[tokens, second])?;
        let mut out = Tensor::unfilled([tokens, width + heads * second]);
        let (own_data, shared_data) = (self.value(own).data(), self.value(shared).data());
        self.device.join_heads(own_data, shared_data, heads, tokens, out.data_mut());
        Ok(self.record(out, [Some(own), Some(shared)], JoinHeads { own, shared, heads }))
    }
}

impl Operation for JoinHeads {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut own = sweep.unfilled_like(self.own);
        let mut shared = sweep.unfilled_like(self.shared);
        sweep.device().join_heads_backward(
            gradient.data(),
            self.heads,
            gradient.rows(),
            own.data_mut(),
            shared.data_mut(),
        );
        sweep.add(self.own, own);
        sweep.add(self.shared, shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], heads: usize, first: usize, second: usize) -> Vec<f64> {
        let head = |index: usize| {
            let shared = &x[1][index / heads * second..][..second];
            x[0][index * first..][..first].iter().chain(shared).copied().collect::<Vec<f64>>()
        };
        (0..x[0].len() / first).flat_map(head).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn heads_follow_the_reference(tokens in 1usize..5, heads in 1usize..4, first in 1usize..5, second in 1usize..5, seed: u64) {
            let inputs = [numbers(&[tokens, heads * first], seed), numbers(&[tokens, second], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.join_heads(vars[0], vars[1], heads);
            check(&inputs, build, |x| reference(x, heads, first, second));
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[900, 48], 1), numbers(&[900, 7], 2)];
        check_bits(&inputs, |tape, vars| tape.join_heads(vars[0], vars[1], 4));
    }
}

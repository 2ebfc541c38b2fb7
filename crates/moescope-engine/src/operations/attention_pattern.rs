//! Who looks at whom.

use crate::backward::{Operation, Sweep};
use crate::recompute::{Recompute, Values};
use crate::{AttentionLayout, EngineError, Tape, Tensor, Var};

/// The way back reads the pattern itself, not the scores before the softmax.
struct AttentionPattern {
    q: Var,
    k: Var,
    layout: AttentionLayout,
}

const NAME: &str = "attention_pattern";

impl Tape<'_> {
    /// Causal `softmax(q · kᵀ / sqrt(head_dim))`, `[batch, head, query, key]`; zero where the key is later than the query.
    ///
    /// `q[token, head * head_dim]`, `k[token, key_value_head * head_dim]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the widths do not fit the layout, [`EngineError::Range`] when the heads cannot be shared
    /// out evenly.
    pub fn attention_pattern(&mut self, q: Var, k: Var, layout: AttentionLayout) -> Result<Var, EngineError> {
        check_layout(NAME, layout)?;
        self.require_shape(NAME, "q", q, &[layout.tokens(), layout.heads * layout.head_dim])?;
        self.require_shape(NAME, "k", k, &[layout.tokens(), layout.key_value_heads * layout.head_dim])?;
        let var = self.compute([Some(q), Some(k)], AttentionPattern { q, k, layout });
        self.nodes[var.0].causal = true;
        Ok(var)
    }
}

/// Refuses a layout without entries or with heads that cannot be shared out evenly.
pub(super) fn check_layout(operation: &'static str, layout: AttentionLayout) -> Result<(), EngineError> {
    let AttentionLayout { heads, key_value_heads, head_dim, .. } = layout;
    if key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) {
        let argument = "key_value_heads, a divisor of heads,";
        return Err(EngineError::Range { operation, argument, found: key_value_heads, low: 1, high: heads });
    }
    if head_dim == 0 {
        let high = usize::MAX;
        return Err(EngineError::Range { operation, argument: "head_dim", found: head_dim, low: 1, high });
    }
    Ok(())
}

impl Recompute for AttentionPattern {
    fn result(&self, values: &Values<'_, '_>) -> Tensor {
        let AttentionLayout { batch, heads, positions, .. } = self.layout;
        let mut out = Tensor::unfilled([batch, heads, positions, positions]);
        values.device.attention_pattern(values.of(self.q), values.of(self.k), self.layout, out.data_mut());
        out
    }
}

impl Operation for AttentionPattern {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut q_gradient = sweep.unfilled_like(self.q);
        let mut k_gradient = sweep.unfilled_like(self.k);
        sweep.device().attention_pattern_backward(
            sweep.value(self.q).data(),
            sweep.value(self.k).data(),
            sweep.result().data(),
            gradient.data_mut(),
            self.layout,
            q_gradient.data_mut(),
            k_gradient.data_mut(),
        );
        sweep.add(self.q, q_gradient);
        sweep.add(self.k, k_gradient);
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    use super::super::attention_mix::tests::{layouts, query_width, shared_width};

    /// `[batch, head, query, key]`, entry by entry.
    pub(in super::super) fn reference(q: &[f64], k: &[f64], layout: AttentionLayout) -> Vec<f64> {
        let AttentionLayout { batch, positions, heads, head_dim, .. } = layout;
        let (wide, narrow) = (query_width(layout), shared_width(layout));
        let mut out = Vec::new();
        for (sequence, head, query) in itertools(batch, heads, positions) {
            let score = |key: usize| -> f64 {
                let left = &q[(sequence * positions + query) * wide + head * head_dim..][..head_dim];
                let shared = head / layout.group() * head_dim;
                let right = &k[(sequence * positions + key) * narrow + shared..][..head_dim];
                left.iter().zip(right).map(|(a, b)| a * b).sum::<f64>() / (head_dim as f64).sqrt()
            };
            let total: f64 = (0..=query).map(|key| score(key).exp()).sum();
            out.extend((0..positions).map(|key| if key > query { 0.0 } else { score(key).exp() / total }));
        }
        out
    }

    fn itertools(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn patterns_follow_the_reference(layout in layouts(), seed: u64) {
            let inputs = [
                numbers(&[layout.tokens(), query_width(layout)], seed),
                numbers(&[layout.tokens(), shared_width(layout)], seed ^ 1),
            ];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.attention_pattern(vars[0], vars[1], layout);
            check(&inputs, build, |x| reference(&x[0], &x[1], layout));
        }
    }

    #[test]
    fn several_blocks_follow_the_reference() {
        let layout = AttentionLayout { batch: 1, positions: 67, heads: 1, key_value_heads: 1, head_dim: 2 };
        let inputs = [numbers(&[67, 2], 1), numbers(&[67, 2], 2)];
        let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.attention_pattern(vars[0], vars[1], layout);
        check(&inputs, build, |x| reference(&x[0], &x[1], layout));
    }

    #[test]
    fn heads_that_cannot_be_shared_are_refused() {
        let layout = AttentionLayout { batch: 1, positions: 2, heads: 3, key_value_heads: 2, head_dim: 2 };
        assert!(matches!(check_layout("test", layout), Err(EngineError::Range { found: 2, .. })));
    }
}

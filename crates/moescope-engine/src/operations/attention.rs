//! Attention as one operation, for whom nobody looks at the pattern.

use super::attention_pattern::check_layout;
use crate::backward::{Operation, Sweep};
use crate::recompute::{Recompute, Values};
use crate::{AttentionLayout, AttentionShape, EngineError, Tape, Tensor, Var};

/// Nothing is kept for the way back, which makes the pattern again, block by block.
struct Attention {
    q: Var,
    k: Var,
    v: Var,
    shape: AttentionShape,
}

const NAME: &str = "attention";

impl Tape<'_> {
    /// Causal `softmax(q · kᵀ / sqrt(head_dim)) · v`: `[token, head * value_dim]`.
    ///
    /// `q[token, head * head_dim]`, `k[token, key_value_head * head_dim]`, `v[token, key_value_head * value_dim]`. The bits are those of
    /// [`attention_pattern`](Self::attention_pattern) and [`attention_mix`](Self::attention_mix), forward and back, while memory does not
    /// grow with the square of the positions.
    ///
    /// # Errors
    /// [`EngineError::Shape`] or [`EngineError::Range`] when something does not fit the layout.
    pub fn attention(&mut self, q: Var, k: Var, v: Var, shape: AttentionShape) -> Result<Var, EngineError> {
        let AttentionShape { layout, value_dim } = shape;
        check_layout(NAME, layout)?;
        check_layout(NAME, shape.values())?;
        let AttentionLayout { heads, key_value_heads, head_dim, .. } = layout;
        self.require_shape(NAME, "q", q, &[layout.tokens(), heads * head_dim])?;
        self.require_shape(NAME, "k", k, &[layout.tokens(), key_value_heads * head_dim])?;
        self.require_shape(NAME, "v", v, &[layout.tokens(), key_value_heads * value_dim])?;
        Ok(self.compute([Some(q), Some(k), Some(v)], Attention { q, k, v, shape }))
    }
}

impl Recompute for Attention {
    fn result(&self, values: &Values<'_, '_>) -> Tensor {
        let AttentionShape { layout, value_dim } = self.shape;
        let mut out = Tensor::unfilled([layout.tokens(), layout.heads * value_dim]);
        let (q, k, v) = (values.of(self.q), values.of(self.k), values.of(self.v));
        values.device.attention(q, k, v, self.shape, out.data_mut());
        out
    }
}

impl Operation for Attention {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut gradients = [self.q, self.k, self.v].map(|var| sweep.unfilled_like(var));
        let [q_gradient, k_gradient, v_gradient] = &mut gradients;
        sweep.device().attention_backward(
            sweep.value(self.q).data(),
            sweep.value(self.k).data(),
            sweep.value(self.v).data(),
            gradient.data(),
            self.shape,
            q_gradient.data_mut(),
            k_gradient.data_mut(),
            v_gradient.data_mut(),
        );
        for (var, gradient) in [self.q, self.k, self.v].into_iter().zip(gradients) {
            sweep.add(var, gradient);
        }
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    use super::super::attention_mix::tests::{layouts, query_width, reference as mix, shared_width};
    use super::super::attention_pattern::tests::reference as pattern;

    fn inputs(shape: AttentionShape, seed: u64) -> [Tensor; 3] {
        let tokens = shape.layout.tokens();
        [
            numbers(&[tokens, query_width(shape.layout)], seed),
            numbers(&[tokens, shared_width(shape.layout)], seed ^ 1),
            numbers(&[tokens, shared_width(shape.values())], seed ^ 2),
        ]
    }

    fn at_once(tape: &mut Tape<'_>, vars: &[Var], shape: AttentionShape) -> Result<Var, EngineError> {
        tape.attention(vars[0], vars[1], vars[2], shape)
    }

    fn in_two(tape: &mut Tape<'_>, vars: &[Var], shape: AttentionShape) -> Result<Var, EngineError> {
        let pattern = tape.attention_pattern(vars[0], vars[1], shape.layout)?;
        tape.attention_mix(pattern, vars[2], shape.values())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn attention_follows_the_reference(layout in layouts(), value_dim in 1usize..5, seed: u64) {
            let shape = AttentionShape { layout, value_dim };
            let whole = |x: &[Vec<f64>]| mix(&pattern(&x[0], &x[1], layout), &x[2], shape.values());
            check(&inputs(shape, seed), |tape, vars| at_once(tape, vars, shape), whole);
        }
    }

    #[test]
    fn several_blocks_have_the_bits_of_the_operations_that_keep_the_pattern() {
        for (positions, heads, key_value_heads, head_dim, value_dim) in
            [(131, 4, 2, 6, 6), (48, 1, 1, 1, 3), (97, 2, 2, 40, 33), (300, 3, 1, 32, 32)]
        {
            let layout = AttentionLayout { batch: 2, positions, heads, key_value_heads, head_dim };
            let shape = AttentionShape { layout, value_dim };
            let inputs = inputs(shape, 7);
            let once = outcome(&inputs, &|tape: &mut Tape<'_>, vars: &[Var]| at_once(tape, vars, shape));
            let two = outcome(&inputs, &|tape: &mut Tape<'_>, vars: &[Var]| in_two(tape, vars, shape));
            assert_eq!(once, two);
            check_bits(&inputs, |tape, vars| at_once(tape, vars, shape));
        }
    }

    #[test]
    fn widths_that_do_not_fit_are_refused() {
        let layout = AttentionLayout { batch: 1, positions: 2, heads: 2, key_value_heads: 1, head_dim: 3 };
        let shape = AttentionShape { layout, value_dim: 4 };
        let mut tape = Tape::new(crate::Mode::Inference);
        let [q, k, _] = inputs(shape, 1).map(|tensor| tape.constant(tensor));
        let message = tape.attention(q, k, k, shape).unwrap_err().to_string();
        assert!(message.contains("[2, 3]") && message.contains("[2, 4]"), "{message}");
    }
}

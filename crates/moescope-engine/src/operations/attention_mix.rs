//! What is seen through an attention pattern.

use super::attention_pattern::check_layout;
use crate::backward::{Operation, Sweep};
use crate::{AttentionLayout, EngineError, MixReach, Tape, Tensor, Var};

/// `causal`: the pattern's zeros for later keys were skipped, and will be.
struct AttentionMix {
    pattern: Var,
    v: Var,
    layout: AttentionLayout,
    causal: bool,
}

const NAME: &str = "attention_mix";

impl Tape<'_> {
    /// Values `v[token, key_value_head * head_dim]` mixed by `pattern[batch, head, query, key]`: `[token, head * head_dim]`.
    ///
    /// A pattern straight from [`attention_pattern`](Self::attention_pattern) is known to be zero for later keys, and those
    /// entries are skipped; any other pattern is read whole.
    ///
    /// # Errors
    /// [`EngineError::Shape`] or [`EngineError::Range`] when something does not fit the layout.
    pub fn attention_mix(
        &mut self,
        pattern: Var,
        v: Var,
        layout: AttentionLayout,
    ) -> Result<Var, EngineError> {
        check_layout(NAME, layout)?;
        let AttentionLayout { batch, positions, heads, key_value_heads, head_dim } = layout;
        self.require_shape(NAME, "pattern", pattern, &[batch, heads, positions, positions])?;
        self.require_shape(NAME, "v", v, &[layout.tokens(), key_value_heads * head_dim])?;
        let causal = self.nodes[pattern.0].causal;
        let mut out = Tensor::unfilled([layout.tokens(), heads * head_dim]);
        let (pattern_data, v_data) = (self.value(pattern).data(), self.value(v).data());
        self.device.attention_mix(pattern_data, v_data, layout, causal, out.data_mut());
        Ok(self.record(out, [Some(pattern), Some(v)], AttentionMix { pattern, v, layout, causal }))
    }
}

impl Operation for AttentionMix {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let reach = MixReach { causal: self.causal, full: !self.causal || sweep.watched(self.pattern) };
        let mut pattern_gradient = sweep.wants(self.pattern).then(|| sweep.unfilled_like(self.pattern));
        let mut v_gradient = sweep.wants(self.v).then(|| sweep.unfilled_like(self.v));
        sweep.device().attention_mix_backward(
            sweep.value(self.pattern).data(),
            sweep.value(self.v).data(),
            gradient.data(),
            self.layout,
            reach,
            pattern_gradient.as_mut().map(Tensor::data_mut),
            v_gradient.as_mut().map(Tensor::data_mut),
        );
        if let Some(v_gradient) = v_gradient {
            sweep.add(self.v, v_gradient);
        }
        if let Some(pattern_gradient) = pattern_gradient {
            sweep.add(self.pattern, pattern_gradient);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    use super::super::attention_pattern::tests::reference as pattern_reference;

    pub(in super::super) fn layouts() -> impl Strategy<Value = AttentionLayout> {
        (1usize..3, 1usize..8, 1usize..3, 1usize..3, 1usize..6).prop_map(
            |(batch, positions, shared, group, head_dim)| AttentionLayout {
                batch,
                positions,
                heads: shared * group,
                key_value_heads: shared,
                head_dim,
            },
        )
    }

    pub(in super::super) fn query_width(layout: AttentionLayout) -> usize {
        layout.heads * layout.head_dim
    }

    pub(in super::super) fn shared_width(layout: AttentionLayout) -> usize {
        layout.key_value_heads * layout.head_dim
    }

    pub(in super::super) fn reference(pattern: &[f64], v: &[f64], layout: AttentionLayout) -> Vec<f64> {
        let AttentionLayout { positions, heads, head_dim, .. } = layout;
        let entry = |i: usize| -> f64 {
            let (token, head, column) = (i / query_width(layout), i / head_dim % heads, i % head_dim);
            let (sequence, query) = (token / positions, token % positions);
            let row = &pattern[((sequence * heads + head) * positions + query) * positions..][..positions];
            let shared = head / layout.group() * head_dim + column;
            let value = |key: usize| v[(sequence * positions + key) * shared_width(layout) + shared];
            row.iter().enumerate().map(|(key, weight)| weight * value(key)).sum()
        };
        (0..layout.tokens() * query_width(layout)).map(entry).collect()
    }

    fn attend(tape: &mut Tape<'_>, vars: &[Var], layout: AttentionLayout) -> Result<Var, EngineError> {
        let pattern = tape.attention_pattern(vars[0], vars[1], layout)?;
        tape.attention_mix(pattern, vars[2], layout)
    }

    fn inputs(layout: AttentionLayout, seed: u64) -> [Tensor; 3] {
        let shared = [layout.tokens(), shared_width(layout)];
        let queries = numbers(&[layout.tokens(), query_width(layout)], seed);
        [queries, numbers(&shared, seed ^ 1), numbers(&shared, seed ^ 2)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_pattern_follows_the_reference(layout in layouts(), seed: u64) {
            let shape = [layout.batch, layout.heads, layout.positions, layout.positions];
            let inputs = [numbers(&shape, seed), numbers(&[layout.tokens(), shared_width(layout)], seed ^ 1)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.attention_mix(vars[0], vars[1], layout);
            check(&inputs, build, |x| reference(&x[0], &x[1], layout));
        }

        #[test]
        fn attention_as_a_whole_follows_the_reference(layout in layouts(), seed: u64) {
            let whole = |x: &[Vec<f64>]| reference(&pattern_reference(&x[0], &x[1], layout), &x[2], layout);
            check(&inputs(layout, seed), |tape, vars| attend(tape, vars, layout), whole);
        }
    }

    #[test]
    fn several_blocks_have_the_same_bits_on_any_number_of_threads() {
        let layout = AttentionLayout { batch: 2, positions: 131, heads: 4, key_value_heads: 2, head_dim: 6 };
        check_bits(&inputs(layout, 1), |tape, vars| attend(tape, vars, layout));
    }

    #[test]
    fn watching_the_pattern_shows_all_of_its_gradient_and_changes_no_bit() {
        let layout = AttentionLayout { batch: 1, positions: 70, heads: 2, key_value_heads: 1, head_dim: 3 };
        let mut found = Vec::new();
        for watched in [false, true] {
            let mut tape = Tape::new(crate::Mode::Gradient);
            let vars = inputs(layout, 5).map(|tensor| tape.leaf(tensor));
            vars.iter().for_each(|&var| tape.watch(var));
            let pattern = tape.attention_pattern(vars[0], vars[1], layout).unwrap();
            if watched {
                tape.watch(pattern);
            }
            let mixed = tape.attention_mix(pattern, vars[2], layout).unwrap();
            let loss = tape.sum_product(mixed, Tensor::full([70, 6], 1.0)).unwrap();
            let gradients = tape.backward(loss).unwrap();
            if watched {
                let values = inputs(layout, 5)[2].data()[69 * 3..].iter().sum::<f32>();
                let corner = gradients.of(pattern).unwrap().data()[69]; // query 0, key 69
                assert!((corner - values).abs() < 1e-5, "{corner} {values}");
            }
            found.push(vars.map(|var| gradients.of(var).unwrap().clone()));
        }
        assert_eq!(found[0], found[1]);
    }
}

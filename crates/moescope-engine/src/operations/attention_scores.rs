//! How much each query asks for each key, before the softmax.

use super::attention_pattern::check_layout;
use crate::backward::{Operation, Sweep};
use crate::{AttentionRule, EngineError, Tape, Tensor, Var};

/// The scores themselves are not needed on the way back.
struct AttentionScores {
    q: Var,
    k: Var,
    rule: AttentionRule,
}

const NAME: &str = "attention_scores";

impl Tape<'_> {
    /// `q · kᵀ` scaled and capped as the rule says, `[batch, head, query, key]`; minus infinity where a query does not see a key.
    ///
    /// `q[token, head * head_dim]`, `k[token, key_value_head * head_dim]`. [`sink_softmax`](Self::sink_softmax) makes a pattern of
    /// it; the plain way from queries to a pattern is [`attention_pattern`](Self::attention_pattern).
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the widths do not fit the layout, [`EngineError::Range`] when the heads cannot be shared out
    /// evenly.
    pub fn attention_scores(&mut self, q: Var, k: Var, rule: AttentionRule) -> Result<Var, EngineError> {
        let layout = rule.layout;
        check_layout(NAME, layout)?;
        self.require_shape(NAME, "q", q, &[layout.tokens(), layout.heads * layout.head_dim])?;
        self.require_shape(NAME, "k", k, &[layout.tokens(), layout.key_value_heads * layout.head_dim])?;
        let mut out = Tensor::unfilled([layout.batch, layout.heads, layout.positions, layout.positions]);
        self.device.attention_scores(self.value(q).data(), self.value(k).data(), rule, out.data_mut());
        Ok(self.record(out, [Some(q), Some(k)], AttentionScores { q, k, rule }))
    }
}

impl Operation for AttentionScores {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut q_gradient = sweep.unfilled_like(self.q);
        let mut k_gradient = sweep.unfilled_like(self.k);
        sweep.device().attention_scores_backward(
            sweep.value(self.q).data(),
            sweep.value(self.k).data(),
            gradient.data_mut(),
            self.rule,
            q_gradient.data_mut(),
            k_gradient.data_mut(),
        );
        sweep.add(self.q, q_gradient);
        sweep.add(self.k, k_gradient);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::attention_mix::tests::{layouts, query_width, shared_width};
    use super::*;
    use crate::AttentionLayout;
    use crate::testing::*;
    use proptest::prelude::*;

    /// Scores of seen keys, `[batch, head, query, key]`; `None` where a key is not seen.
    pub(in super::super) fn reference(q: &[f64], k: &[f64], rule: AttentionRule) -> Vec<Option<f64>> {
        let AttentionLayout { positions, heads, head_dim, .. } = rule.layout;
        let (wide, narrow) = (query_width(rule.layout), shared_width(rule.layout));
        let entry = |i: usize| {
            let (key, query, head) =
                (i % positions, i / positions % positions, i / positions / positions % heads);
            let sequence = i / positions / positions / heads;
            let hidden = key > query || rule.window.is_some_and(|window| key + window <= query);
            let left = &q[(sequence * positions + query) * wide + head * head_dim..][..head_dim];
            let shared = head / rule.layout.group() * head_dim;
            let right = &k[(sequence * positions + key) * narrow + shared..][..head_dim];
            let score = f64::from(rule.scale) * left.iter().zip(right).map(|(a, b)| a * b).sum::<f64>();
            let capped = rule.cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
            (!hidden).then_some(capped)
        };
        (0..rule.layout.batch * heads * positions * positions).map(entry).collect()
    }

    pub(in super::super) fn rules() -> impl Strategy<Value = AttentionRule> {
        let options = (proptest::option::of(0.2f32..2.0), proptest::option::of(1usize..9), 0.1f32..2.0);
        (layouts(), options).prop_map(|(layout, (cap, window, scale))| AttentionRule {
            layout,
            scale,
            cap,
            window,
        })
    }

    pub(in super::super) fn inputs(layout: AttentionLayout, seed: u64) -> [Tensor; 2] {
        let queries = numbers(&[layout.tokens(), query_width(layout)], seed);
        [queries, numbers(&[layout.tokens(), shared_width(layout)], seed ^ 1)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn scores_follow_the_reference(rule in rules(), seed: u64) {
            // Unseen keys are set to a number first, since minus infinity has no sum.
            let finite = |tape: &mut Tape<'_>, vars: &[Var]| {
                let scores = tape.attention_scores(vars[0], vars[1], rule)?;
                tape.sink_softmax(scores, None, rule)
            };
            let wanted = |x: &[Vec<f64>]| softmax(&reference(&x[0], &x[1], rule), rule.layout.positions);
            check(&inputs(rule.layout, seed), finite, wanted);
            let mut tape = Tape::new(crate::Mode::Inference);
            let [q, k] = inputs(rule.layout, seed).map(|tensor| tape.constant(tensor));
            let scores = tape.attention_scores(q, k, rule).unwrap();
            let wide = [q, k].map(|var| tape.value(var).data().iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
            for (found, wanted) in tape.value(scores).data().iter().zip(reference(&wide[0], &wide[1], rule)) {
                match wanted {
                    Some(wanted) => prop_assert!((f64::from(*found) - wanted).abs() < 1e-5),
                    None => prop_assert_eq!(*found, f32::NEG_INFINITY),
                }
            }
        }
    }

    fn softmax(scores: &[Option<f64>], columns: usize) -> Vec<f64> {
        let row = |row: &[Option<f64>]| {
            let total: f64 = row.iter().flatten().map(|score| score.exp()).sum();
            row.iter().map(move |score| score.map_or(0.0, |score| score.exp() / total)).collect::<Vec<f64>>()
        };
        scores.chunks(columns).flat_map(row).collect()
    }

    #[test]
    fn several_blocks_and_a_window_follow_the_reference() {
        let layout = AttentionLayout { batch: 1, positions: 67, heads: 1, key_value_heads: 1, head_dim: 2 };
        let rule = AttentionRule { layout, scale: 0.7, cap: Some(1.0), window: Some(5) };
        let build = |tape: &mut Tape<'_>, vars: &[Var]| {
            let scores = tape.attention_scores(vars[0], vars[1], rule)?;
            tape.sink_softmax(scores, None, rule)
        };
        check(&inputs(layout, 1), build, |x| softmax(&reference(&x[0], &x[1], rule), 67));
    }

    #[test]
    fn several_blocks_have_the_same_bits_on_any_number_of_threads() {
        let layout = AttentionLayout { batch: 2, positions: 131, heads: 4, key_value_heads: 2, head_dim: 6 };
        let rule = AttentionRule { layout, scale: 0.4, cap: None, window: Some(70) };
        check_bits(&inputs(layout, 1), |tape, vars| {
            let scores = tape.attention_scores(vars[0], vars[1], rule)?;
            tape.sink_softmax(scores, None, rule)
        });
    }
}

//! Scores of attention to a pattern, with a sink beside the keys.

use crate::backward::{Operation, Sweep};
use crate::{AttentionRule, EngineError, Tape, Tensor, Var};

/// The way back reads the pattern itself.
struct SinkSoftmax {
    scores: Var,
    sinks: Option<Var>,
    rule: AttentionRule,
}

const NAME: &str = "sink_softmax";

impl Tape<'_> {
    /// Softmax of `scores[batch, head, query, key]` over the keys that each query sees; zero elsewhere.
    ///
    /// With `sinks[head]` each row has one more score, whose share goes nowhere: the rows then sum to less than one.
    ///
    /// **Source:** OpenAI 2025, "gpt-oss-120b and gpt-oss-20b model card", after Xiao et al. 2023.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when scores or sinks do not fit the layout.
    pub fn sink_softmax(
        &mut self,
        scores: Var,
        sinks: Option<Var>,
        rule: AttentionRule,
    ) -> Result<Var, EngineError> {
        let layout = rule.layout;
        let shape = [layout.batch, layout.heads, layout.positions, layout.positions];
        self.require_shape(NAME, "scores", scores, &shape)?;
        if let Some(sinks) = sinks {
            self.require_shape(NAME, "sinks", sinks, &[layout.heads])?;
        }
        let mut out = Tensor::unfilled(shape);
        let sink_data = sinks.map(|sinks| self.value(sinks).data());
        self.device.sink_softmax(self.value(scores).data(), sink_data, rule, out.data_mut());
        let var = self.record(out, [Some(scores), sinks], SinkSoftmax { scores, sinks, rule });
        self.nodes[var.0].causal = true;
        Ok(var)
    }
}

impl Operation for SinkSoftmax {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let wanted = self.sinks.filter(|sinks| sweep.wants(*sinks));
        let mut sinks_gradient = wanted.map(|sinks| sweep.unfilled_like(sinks));
        sweep.device().sink_softmax_backward(
            sweep.result().data(),
            self.rule,
            gradient.data_mut(),
            sinks_gradient.as_mut().map(Tensor::data_mut),
        );
        if let (Some(sinks), Some(gradient)) = (wanted, sinks_gradient) {
            sweep.add(sinks, gradient);
        }
        sweep.add(self.scores, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::super::attention_scores::tests::rules;
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], rule: AttentionRule) -> Vec<f64> {
        let positions = rule.layout.positions;
        let row = |(index, scores): (usize, &[f64])| {
            let seen = rule.seen(index % positions);
            let sink = x[1][index / positions % rule.layout.heads].exp();
            let total = sink + scores[seen.clone()].iter().map(|score| score.exp()).sum::<f64>();
            let share =
                |(key, score): (usize, &f64)| if seen.contains(&key) { score.exp() / total } else { 0.0 };
            scores.iter().enumerate().map(share).collect::<Vec<f64>>()
        };
        x[0].chunks(positions).enumerate().flat_map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn patterns_follow_the_reference(rule in rules(), seed: u64) {
            let layout = rule.layout;
            let shape = [layout.batch, layout.heads, layout.positions, layout.positions];
            let inputs = [numbers(&shape, seed), numbers(&[layout.heads], seed ^ 1)];
            check(&inputs, |tape, vars| tape.sink_softmax(vars[0], Some(vars[1]), rule), |x| reference(x, rule));
        }
    }

    #[test]
    fn without_options_it_has_the_bits_of_the_plain_pattern() {
        for (positions, head_dim) in [(1, 3), (33, 4), (131, 16)] {
            let layout =
                crate::AttentionLayout { batch: 2, positions, heads: 4, key_value_heads: 2, head_dim };
            let scale = 1.0 / (head_dim as f32).sqrt();
            let rule = AttentionRule { layout, scale, cap: None, window: None };
            let mut tape = Tape::new(crate::Mode::Inference);
            let q = tape.constant(numbers(&[2 * positions, 4 * head_dim], 1));
            let k = tape.constant(numbers(&[2 * positions, 2 * head_dim], 2));
            let at_once = tape.attention_pattern(q, k, layout).unwrap();
            let scores = tape.attention_scores(q, k, rule).unwrap();
            let apart = tape.sink_softmax(scores, None, rule).unwrap();
            assert_eq!(tape.value(at_once), tape.value(apart));
        }
    }

    #[test]
    fn a_great_sink_takes_all_and_overflows_nothing() {
        let layout =
            crate::AttentionLayout { batch: 1, positions: 2, heads: 1, key_value_heads: 1, head_dim: 1 };
        let rule = AttentionRule { layout, scale: 1.0, cap: None, window: None };
        let mut tape = Tape::new(crate::Mode::Inference);
        let scores = tape.constant(Tensor::zeros([1, 1, 2, 2]));
        let sinks = tape.constant(Tensor::full([1], 500.0));
        let pattern = tape.sink_softmax(scores, Some(sinks), rule).unwrap();
        assert!(tape.value(pattern).data().iter().all(|share| *share == 0.0));
    }
}

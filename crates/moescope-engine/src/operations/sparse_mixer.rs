//! Weights of two experts chosen one after the other.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// `choices[token, 2]`.
struct SparseMixer {
    logits: Var,
    choices: Vec<u32>,
    tolerance: f32,
}

const NAME: &str = "sparse_mixer";

impl Tape<'_> {
    /// Weights of the two chosen experts of each token, in the order of `choices[token, 2]`: `logits[token, expert]` →
    /// `[token, 2]`.
    ///
    /// The expert of the larger logit is weighted by a softmax over itself and those whose logits come within twice the tolerance
    /// of its own, relative to the larger magnitude; then the other in the same way among those that are left. The two
    /// weights have no fixed sum. No gradient flows through who competes.
    ///
    /// **Source:** Liu et al. 2024, "GRIN: GRadient-INformed MoE" (arXiv 2409.12136), as PhiMoE infers.
    ///
    /// # Errors
    /// [`EngineError::Length`] when there are not two choices for each token, [`EngineError::Range`] for an expert that does not
    /// exist.
    pub fn sparse_mixer(&mut self, logits: Var, choices: &[u32], tolerance: f32) -> Result<Var, EngineError> {
        let (tokens, experts) = (self.value(logits).rows(), self.value(logits).columns());
        let (found, wanted) = (choices.len(), 2 * tokens);
        if found != wanted {
            return Err(EngineError::Length { operation: NAME, argument: "choices", found, wanted });
        }
        if let Some(&expert) = choices.iter().find(|&&expert| expert as usize >= experts) {
            let (found, high) = (expert as usize, experts - 1);
            return Err(EngineError::Range { operation: NAME, argument: "choices", found, low: 0, high });
        }
        let mut out = Tensor::unfilled([tokens, 2]);
        self.device.sparse_mixer(self.value(logits).data(), experts, choices, tolerance, out.data_mut());
        let operation = SparseMixer { logits, choices: choices.to_vec(), tolerance };
        Ok(self.record(out, [Some(logits), None], operation))
    }
}

impl Operation for SparseMixer {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.logits);
        sweep.device().sparse_mixer_backward(
            sweep.value(self.logits).data(),
            out.columns(),
            &self.choices,
            self.tolerance,
            gradient.data(),
            out.data_mut(),
        );
        sweep.add(self.logits, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    /// The formula of the reference implementation.
    fn reference(logits: &[f64], experts: usize, tolerance: f64) -> Vec<f64> {
        let mut out = Vec::new();
        for row in logits.chunks(experts) {
            let mut open = row.to_vec();
            for _ in 0..2 {
                let best = open.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let near = |s: f64| (best - s) / s.abs().max(best) <= 2.0 * tolerance;
                let kept = row.iter().zip(&open).filter(|(s, open)| open.is_finite() && near(**s));
                out.push(1.0 / kept.map(|(s, _)| (s - best).exp()).sum::<f64>());
                let place = open.iter().position(|s| *s == best).unwrap();
                open[place] = f64::NEG_INFINITY;
            }
        }
        out
    }

    /// The two largest of each row, the smaller first: the order must not matter.
    fn best_two(logits: &[f32], experts: usize) -> Vec<u32> {
        let row = |row: &[f32]| {
            let mut order: Vec<u32> = (0..experts as u32).collect();
            order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
            [order[1], order[0]]
        };
        logits.chunks(experts).flat_map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn weights_follow_the_reference(tokens in 1usize..4, experts in 2usize..7, tolerance in 0.05f32..0.6, seed: u64) {
            let logits = numbers(&[tokens, experts], seed);
            let choices = best_two(logits.data(), experts);
            let swapped = |x: &[Vec<f64>]| {
                let plain = reference(&x[0], experts, f64::from(tolerance));
                plain.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect()
            };
            check(&[logits], |tape, vars| tape.sparse_mixer(vars[0], &choices, tolerance), swapped);
        }
    }

    #[test]
    fn far_apart_each_has_the_whole_weight() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let logits = tape.constant(Tensor::new([1, 3], vec![4.0, 1.0, 2.0]).unwrap());
        let weights = tape.sparse_mixer(logits, &[0, 2], 0.01).unwrap();
        assert_eq!(tape.value(weights).data(), [1.0, 1.0]);
    }
}

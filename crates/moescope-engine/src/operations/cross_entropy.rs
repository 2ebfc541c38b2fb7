//! Surprise at the next token.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// A target that does not count.
pub const IGNORE: u32 = u32::MAX;

/// `log_sums[row]` are kept, so the way back needs one exponential for each logit and no second sum.
struct CrossEntropy {
    logits: Var,
    targets: Vec<u32>,
    log_sums: Tensor,
    counted: usize,
}

const NAME: &str = "cross_entropy";

impl Tape<'_> {
    /// Mean of `-log softmax(logits)[target]` in nats, over the rows whose target is not [`IGNORE`].
    ///
    /// `logits[row, class]`, `targets[row]`. The loss of each row is at [`token_losses`](Self::token_losses).
    ///
    /// # Errors
    /// [`EngineError::Length`] when there is not one target for each row, [`EngineError::Range`] for a target that is no
    /// class, [`EngineError::NoTargets`] when nothing counts.
    pub fn cross_entropy(&mut self, logits: Var, targets: &[u32]) -> Result<Var, EngineError> {
        let value = self.value(logits);
        let counted = check_targets(targets, value.rows(), value.columns())?;
        let mut log_sums = Tensor::unfilled([value.rows()]);
        self.device.log_sum_exp(value.data(), value.columns(), log_sums.data_mut());
        let losses: Vec<f32> = std::iter::zip(targets, log_sums.data())
            .zip(value.data().chunks_exact(value.columns()))
            .map(|((&target, &sum), row)| if target == IGNORE { 0.0 } else { sum - row[target as usize] })
            .collect();
        let total: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        let loss = Tensor::scalar((total / counted as f64) as f32);
        let operation = CrossEntropy { logits, targets: targets.to_vec(), log_sums, counted };
        let var = self.record(loss, [Some(logits), None], operation);
        self.token_losses.insert(var, losses);
        Ok(var)
    }

    /// The loss of each row of a [`cross_entropy`](Self::cross_entropy), in nats; 0 where the target is ignored, and empty
    /// for any other variable.
    pub fn token_losses(&self, loss: Var) -> &[f32] {
        self.token_losses.get(&loss).map_or(&[], Vec::as_slice)
    }
}

/// Number of targets that count.
fn check_targets(targets: &[u32], rows: usize, columns: usize) -> Result<usize, EngineError> {
    if targets.len() != rows {
        return Err(EngineError::Length {
            operation: NAME,
            argument: "targets",
            found: targets.len(),
            wanted: rows,
        });
    }
    let mut counted = 0;
    for &target in targets.iter().filter(|&&target| target != IGNORE) {
        if target as usize >= columns {
            let (found, high) = (target as usize, columns.saturating_sub(1));
            return Err(EngineError::Range { operation: NAME, argument: "targets", found, low: 0, high });
        }
        counted += 1;
    }
    if counted == 0 { Err(EngineError::NoTargets { rows }) } else { Ok(counted) }
}

impl Operation for CrossEntropy {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.logits);
        let factor = gradient.data()[0] / self.counted as f32;
        let factors: Vec<f32> =
            self.targets.iter().map(|&target| if target == IGNORE { 0.0 } else { factor }).collect();
        let logits = sweep.value(self.logits).data();
        let targets = Some(self.targets.as_slice());
        sweep.device().scaled_softmax(logits, self.log_sums.data(), &factors, targets, out.data_mut());
        sweep.add(self.logits, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(logits: &[f64], targets: &[u32], columns: usize) -> Vec<f64> {
        let rows = logits.chunks(columns).zip(targets).filter(|(_, target)| **target != IGNORE);
        let losses: Vec<f64> =
            rows.map(|(row, &t)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[t as usize]).collect();
        vec![losses.iter().sum::<f64>() / losses.len() as f64]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn losses_follow_the_reference(
            first in 0u32..7, rest in proptest::collection::vec(prop_oneof![0u32..7, Just(IGNORE)], 0..6),
            columns in 7usize..45, seed: u64,
        ) {
            let targets: Vec<u32> = std::iter::once(first).chain(rest).collect();
            let logits = numbers(&[targets.len(), columns], seed);
            let build = |tape: &mut Tape<'_>, x: &[Var]| tape.cross_entropy(x[0], &targets);
            check(&[logits], build, |x| reference(&x[0], &targets, columns));
        }
    }

    #[test]
    fn a_hand_worked_case() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let logits = tape.constant(Tensor::new([2, 2], vec![0.0, 0.0, 3f32.ln(), 0.0]).unwrap());
        let loss = tape.cross_entropy(logits, &[IGNORE, 1]).unwrap();
        assert!((tape.value(loss).data()[0] - 4f32.ln()).abs() < 1e-6);
        assert_eq!(tape.token_losses(loss)[0], 0.0);
        assert!((tape.token_losses(loss)[1] - 4f32.ln()).abs() < 1e-6);
        assert!(tape.token_losses(logits).is_empty());
    }

    #[test]
    fn wrong_targets_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let logits = tape.constant(Tensor::zeros([2, 3]));
        assert_eq!(tape.cross_entropy(logits, &[IGNORE; 2]), Err(EngineError::NoTargets { rows: 2 }));
        assert!(matches!(tape.cross_entropy(logits, &[0, 3]), Err(EngineError::Range { found: 3, .. })));
        assert!(matches!(tape.cross_entropy(logits, &[0]), Err(EngineError::Length { .. })));
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let targets: Vec<u32> = (0..400).map(|i| if i % 7 == 0 { IGNORE } else { i % 97 }).collect();
        check_bits(&[numbers(&[400, 97], 1)], |tape, x| tape.cross_entropy(x[0], &targets));
    }
}

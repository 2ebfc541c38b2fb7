use super::folds::Fold;
use super::logistic::{self, Classifier, Penalty};
use super::{Probe, ProbeOptions};
use crate::AnalysisError;
use crate::matrix::Features;
use crate::statistics::{BootstrapMethod, Resampling, cluster_bootstrap};

/// What the probe said about one held-out token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    right: bool,
    log_likelihood: f64,
}

/// Fits on the training tokens of a fold and judges each of its test tokens.
pub(super) fn judge(features: &Features, labels: &[u32], fold: &Fold, penalty: Penalty) -> Vec<Verdict> {
    let classifier = Classifier::fit(features, labels, &fold.train, penalty);
    let one = |(token, log_probabilities): (&usize, Vec<f64>)| {
        let label = labels[*token] as usize;
        Verdict {
            right: logistic::largest(&log_probabilities) == label,
            log_likelihood: log_probabilities[label],
        }
    };
    fold.test.iter().zip(classifier.log_probabilities(features, &fold.test)).map(one).collect()
}

/// What was found for every token, all folds together.
pub(super) struct Outcome {
    right: Vec<f64>,   // [token]
    control: Vec<f64>, // [token], mean over the control tasks
    log_likelihood: f64,
}

impl Outcome {
    /// Nothing found yet.
    pub(super) fn empty(tokens: usize) -> Outcome {
        let (right, control) = (vec![0.0; tokens], vec![0.0; tokens]);
        Outcome { right, control, log_likelihood: 0.0 }
    }

    /// Enters the verdicts on the tokens of one fold; set 0 is the task itself, all others are controls.
    pub(super) fn enter(&mut self, set: usize, controls: usize, tokens: &[usize], verdicts: &[Verdict]) {
        let share = 1.0 / self.right.len() as f64;
        for (token, verdict) in tokens.iter().zip(verdicts) {
            let right = f64::from(verdict.right);
            if set > 0 {
                self.control[*token] += right / controls as f64;
                continue;
            }
            self.right[*token] = right;
            self.log_likelihood += share * verdict.log_likelihood;
        }
    }

    /// Accuracies with their intervals over documents.
    pub(super) fn summarise(
        &self,
        (labels, classes): (&[u32], usize),
        documents: &[u32],
        options: &ProbeOptions,
    ) -> Result<Probe, AnalysisError> {
        let shares = shares(labels, classes);
        let resampling = Resampling {
            replicates: options.replicates,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: options.seed.child("bootstrap"),
        };
        let over = |value: &(dyn Fn(usize) -> f64 + Sync)| {
            let mean = |rows: &[usize]| rows.iter().map(|r| value(*r)).sum::<f64>() / rows.len() as f64;
            cluster_bootstrap(documents, mean, resampling)
        };
        Ok(Probe {
            accuracy: over(&|t| self.right[t])?,
            control: self.control.iter().sum::<f64>() / self.control.len() as f64,
            selectivity: over(&|t| self.right[t] - self.control[t])?,
            majority: shares.iter().copied().fold(1.0 / classes as f64, f64::max),
            log_likelihood: self.log_likelihood,
            log_likelihood_null: shares
                .iter()
                .filter(|share| **share > 0.0)
                .map(|share| share * share.ln())
                .sum(),
            tokens: self.right.len(),
        })
    }
}

/// Share of the tokens that each class has.
///
/// The best that can be said without the representation, told in hindsight. A guess from the documents of other folds is below it, and below chance where classes have
/// about as many tokens: the class that is ahead among some documents is behind among the others.
fn shares(labels: &[u32], classes: usize) -> Vec<f64> {
    let mut shares = vec![0.0; classes];
    labels.iter().for_each(|label| shares[*label as usize] += 1.0 / labels.len() as f64);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    fn verdicts(right: [bool; 2], log_likelihood: f64) -> Vec<Verdict> {
        right.map(|right| Verdict { right, log_likelihood }).to_vec()
    }

    #[test]
    fn accuracy_and_selectivity_by_hand() {
        // Four tokens in two folds, which are not in order; the task is right about three of them, two controls about two and about one.
        let options = ProbeOptions { folds: 2, penalty: 1e-2, controls: 2, replicates: 50, seed: Seed(1) };
        let mut outcome = Outcome::empty(4);
        outcome.enter(0, 2, &[0, 2], &verdicts([true, true], -0.5));
        outcome.enter(0, 2, &[1, 3], &verdicts([true, false], -1.5));
        outcome.enter(1, 2, &[0, 2], &verdicts([true, false], -9.0));
        outcome.enter(1, 2, &[1, 3], &verdicts([true, false], -9.0));
        outcome.enter(2, 2, &[0, 2], &verdicts([false, false], -9.0));
        outcome.enter(2, 2, &[1, 3], &verdicts([false, true], -9.0));
        let found = outcome.summarise((&[0, 1, 1, 1], 3), &[0, 1, 2, 3], &options).unwrap();
        assert_eq!((found.accuracy.estimate, found.control), (0.75, 3.0 / 8.0));
        assert_eq!(found.selectivity.estimate, 0.75 - 3.0 / 8.0);
        // Likelihoods and the most frequent class are those of the task alone.
        assert_eq!((found.majority, found.log_likelihood), (0.75, -1.0));
        let entropy = 0.25 * 4f64.ln() + 0.75 * (4.0 / 3.0_f64).ln();
        assert!((found.log_likelihood_null + entropy).abs() < 1e-12);
        assert_eq!((found.tokens, found.accuracy.units), (4, 4));
        // By token: ½, ½, 1 and −½ above its controls.
        assert!(found.selectivity.low >= -0.5 && found.selectivity.high <= 1.0, "{found:?}");
    }
}

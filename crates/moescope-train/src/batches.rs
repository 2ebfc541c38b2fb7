use moescope_base::{Seed, Tokens};
use moescope_engine::IGNORE;

use crate::{TrainError, TrainPlan};

/// Where a run takes its data from: a pure function of the step, so that resuming needs no state, and so that all
/// families of a study see the same tokens in the same order.
pub trait Batches: Sync {
    /// The batch of a step, counted from 0.
    fn batch(&self, step: u64) -> Batch;

    /// A hash of all that batches are drawn from. A resume state keeps it, so that text changed in one place only is
    /// noticed although the batches that are compared happen to be the same. Empty, as by default, where the
    /// batches follow from numbers that the first and the last one show.
    fn content(&self) -> String {
        String::new()
    }
}

/// Random tokens, drawn from the number of the step, for timing: what they are does not change how long a step takes, but
/// where they go does. They are spread evenly over the vocabulary, and so over the experts of an untrained router; real text
/// is routed less evenly, and slower.
#[derive(Clone, Copy, Debug)]
pub struct RandomBatches {
    /// Ids below this, at least 1.
    pub vocab: u32,
    /// Sequences, at least 1.
    pub batch: usize,
    /// Tokens of a sequence, at least 2.
    pub positions: usize,
}

impl RandomBatches {
    /// Input of a step, `[batch, pos]`.
    ///
    /// Panics for sizes below those that the fields name.
    pub fn tokens(&self, step: u64) -> Tokens {
        let seed = Seed(step);
        let id = |i: u64| (seed.index(i).0 % u64::from(self.vocab)) as u32;
        let ids = (0..(self.batch * self.positions) as u64).map(id).collect();
        Tokens::new(ids, self.batch, self.positions).expect("the sizes are those that the fields ask for")
    }
}

impl Batches for RandomBatches {
    fn batch(&self, step: u64) -> Batch {
        Batch::next_token(self.tokens(step))
    }
}

/// The data of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Input, `[batch, pos]`.
    pub tokens: Tokens,
    /// Token wanted after each position, `[batch, pos]`; [`IGNORE`] where no loss is taken.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Language modelling: each position wants the token that follows it, the last one of a sequence wants nothing.
    pub fn next_token(tokens: Tokens) -> Batch {
        let targets = tokens.next_ids(IGNORE);
        Batch { tokens, targets }
    }

    /// Refuses a batch that is not of the plan's sizes.
    pub(crate) fn check(&self, plan: &TrainPlan, step: u64) -> Result<(), TrainError> {
        let found = (self.tokens.batch(), self.tokens.positions());
        let (batch, positions) = (plan.batch, plan.positions);
        let problem = if found != (batch, positions) {
            format!("found {} sequences of {}", found.0, found.1)
        } else if self.targets.len() != self.tokens.len() {
            format!("found {} targets for {} tokens", self.targets.len(), self.tokens.len())
        } else {
            return Ok(());
        };
        Err(TrainError::Batch { step, problem, batch, positions })
    }
}

/// BLAKE3, in hex, of the first and the last batch of a run and of the content that they are drawn from: tells other data,
/// or another order of them, apart.
pub(crate) fn fingerprint(batches: &dyn Batches, plan: &TrainPlan) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(batches.content().as_bytes());
    for step in [0, plan.steps - 1] {
        let batch = batches.batch(step);
        for id in batch.tokens.ids().iter().chain(&batch.targets) {
            hasher.update(&id.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Family, Pattern, plan};

    #[test]
    fn next_token_targets_stay_in_their_sequence() {
        let batch = Batch::next_token(Tokens::new(vec![1, 2, 3, 4], 2, 2).unwrap());
        assert_eq!(batch.targets, [2, IGNORE, 4, IGNORE]);
    }

    #[test]
    fn a_batch_of_other_sizes_is_refused_with_both_sizes() {
        let plan = plan(Family::Dense, 1);
        let mut batch = Pattern::of(&plan).batch(0);
        assert!(batch.check(&plan, 0).is_ok());
        batch.targets.pop();
        assert!(batch.check(&plan, 0).unwrap_err().to_string().contains("found 63 targets for 64 tokens"));
        let small = Batch::next_token(Tokens::new(vec![1, 2], 1, 2).unwrap());
        let error = small.check(&plan, 7).unwrap_err().to_string();
        assert!(error.contains("step 7") && error.contains("found 1 sequences of 2"), "{error}");
    }

    #[test]
    fn other_data_have_another_fingerprint() {
        let plan = plan(Family::Dense, 3);
        let first = Pattern::of(&plan);
        let other = Pattern { seed: 99, ..first.clone() };
        assert_eq!(fingerprint(&first, &plan), fingerprint(&first, &plan));
        assert_ne!(fingerprint(&first, &plan), fingerprint(&other, &plan));
    }
}

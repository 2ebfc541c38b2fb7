//! Synthetic tasks whose truth is planted, so that what a model knows can be counted.
//!
//! Every example is a pure function of seed, split and index: nothing is stored, and two models of
//! a seed see the same examples in the same order. The loss is taken at answers alone.

mod batch;
mod facts;
mod modular;
mod planted;
mod recall;

use moescope_base::Seed;

use crate::error::CorpusError;
use crate::split::Split;
pub use batch::{IGNORE, TaskBatch};
pub use facts::MemorisedFacts;
pub use modular::{ModularArithmetic, Operation};
pub use planted::{PlantedBatch, PlantedDomains};
pub use recall::KeyValueRecall;

/// One of the tasks, with its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Find the value of a key given earlier in the same sequence.
    Recall(KeyValueRecall),
    /// Know facts by heart; training and test are the same facts.
    Facts(MemorisedFacts),
    /// Compute `a + b` or `a - b` modulo a number; test pairs are never trained on.
    Modular(ModularArithmetic),
}

impl Task {
    /// The preset of each task: small enough for a model of width 64 and 2 layers to start learning
    /// it within a few hundred steps of a thousand tokens.
    pub fn presets() -> [Task; 3] {
        [
            Task::Recall(KeyValueRecall::preset()),
            Task::Facts(MemorisedFacts::preset()),
            Task::Modular(ModularArithmetic::preset()),
        ]
    }

    /// The task's name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Task::Recall(_) => KeyValueRecall::NAME,
            Task::Facts(_) => MemorisedFacts::NAME,
            Task::Modular(_) => ModularArithmetic::NAME,
        }
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        match self {
            Task::Recall(task) => task.vocabulary(),
            Task::Facts(task) => task.vocabulary(),
            Task::Modular(task) => task.vocabulary(),
        }
    }

    /// Tokens per sequence.
    pub fn positions(&self) -> usize {
        match self {
            Task::Recall(task) => task.positions(),
            Task::Facts(task) => task.positions(),
            Task::Modular(task) => task.positions(),
        }
    }

    /// Share of answers that the best guesser without the task's skill gets right, from 0 to 1.
    pub fn chance_accuracy(&self) -> f64 {
        match self {
            Task::Recall(task) => task.chance_accuracy(),
            Task::Facts(task) => task.chance_accuracy(),
            Task::Modular(task) => task.chance_accuracy(),
        }
    }

    /// The batch of a step, steps counted from 0.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for a batch of none.
    pub fn batch(
        &self,
        seed: Seed,
        split: Split,
        step: u64,
        batch_size: usize,
    ) -> Result<TaskBatch, CorpusError> {
        let first = step * batch_size as u64;
        let sequences = (0..batch_size as u64).map(|place| self.sequence(seed, split, first + place));
        TaskBatch::from_sequences(sequences, self.positions())
    }

    fn sequence(&self, seed: Seed, split: Split, index: u64) -> batch::Sequence {
        match self {
            Task::Recall(task) => task.sequence(seed, split, index),
            Task::Facts(task) => task.sequence(seed, split, index),
            Task::Modular(task) => task.sequence(seed, split, index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_pure_and_steps_follow_one_another() {
        for task in Task::presets() {
            let whole = task.batch(Seed(3), Split::Train, 0, 8).unwrap();
            let second = task.batch(Seed(3), Split::Train, 1, 4).unwrap();
            assert_eq!(whole, task.batch(Seed(3), Split::Train, 0, 8).unwrap(), "{}", task.name());
            assert_eq!(whole.tokens().sequence(4), second.tokens().sequence(0), "{}", task.name());
            assert_ne!(whole, task.batch(Seed(4), Split::Train, 0, 8).unwrap(), "{}", task.name());
        }
    }

    #[test]
    fn answers_are_the_next_tokens_and_ids_stay_in_the_vocabulary() {
        for task in Task::presets() {
            for split in [Split::Train, Split::Validation, Split::Test] {
                let batch = task.batch(Seed(1), split, 5, 16).unwrap();
                let next = batch.tokens().next_ids(IGNORE);
                assert!(batch.answers().count() >= 16, "{}", task.name());
                for (place, target) in batch.answers() {
                    assert_eq!(target, next[place], "{} at {place}", task.name());
                }
                assert!(batch.tokens().ids().iter().all(|&id| (id as usize) < task.vocabulary()));
                assert_eq!(batch.tokens().positions(), task.positions());
            }
        }
    }

    #[test]
    fn an_empty_batch_is_an_error() {
        assert!(Task::presets()[0].batch(Seed(0), Split::Train, 0, 0).is_err());
    }

    #[test]
    fn chance_is_a_share() {
        assert!(Task::presets().iter().all(|task| (0.0..0.5).contains(&task.chance_accuracy())));
    }
}

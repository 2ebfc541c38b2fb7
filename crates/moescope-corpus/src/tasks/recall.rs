//! Key-value recall in context.

use moescope_base::Seed;

use super::batch::Sequence;
use crate::draws::Draws;
use crate::error::CorpusError;
use crate::split::Split;

/// Pairs `k₁ v₁ k₂ v₂ …`, then queries: some of the keys again, each followed by its value.
///
/// Only context tells which value a key has: keys and values are drawn anew for each sequence. Keys
/// are ids `0..keys`, values `keys..keys + values`; keys do not repeat within the pairs, nor do values.
///
/// - **Does not show:** knowledge in the weights; a model that solves it has learned to look back.
/// - **Source:** multi-query associative recall, Arora et al. 2023 ("Zoology").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValueRecall {
    pairs: usize,
    queries: usize,
    keys: usize,
    values: usize,
}

impl KeyValueRecall {
    /// The task's name in tables.
    pub const NAME: &'static str = "key-value recall";

    /// The task with the given sizes.
    ///
    /// # Errors
    /// [`CorpusError::TaskSizes`] unless `1 ≤ queries`, `2 ≤ pairs ≤ keys` and `pairs ≤ values`.
    pub fn new(pairs: usize, queries: usize, keys: usize, values: usize) -> Result<Self, CorpusError> {
        let fits = pairs >= 2 && queries >= 1 && pairs <= keys && pairs <= values;
        if !fits {
            let problem = format!(
                "{pairs} pairs, {queries} queries, {keys} keys and {values} values do not fit; wanted 2 pairs or more, 1 query or more, and at least as many keys and values as pairs"
            );
            return Err(CorpusError::TaskSizes { task: Self::NAME, problem });
        }
        Ok(Self { pairs, queries, keys, values })
    }

    /// 4 pairs and 4 queries, over 16 keys and 16 values: 16 positions.
    pub fn preset() -> Self {
        Self { pairs: 4, queries: 4, keys: 16, values: 16 }
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.keys + self.values
    }

    /// Tokens per sequence.
    pub fn positions(&self) -> usize {
        2 * (self.pairs + self.queries)
    }

    /// `1 / pairs`: guessing among the values in sight needs no recall.
    pub fn chance_accuracy(&self) -> f64 {
        1.0 / self.pairs as f64
    }

    pub(super) fn sequence(&self, seed: Seed, split: Split, index: u64) -> Sequence {
        let mut draws = Draws::new(seed.child(Self::NAME).child(split.name()), "sequence", index);
        let keys = draws.distinct(self.pairs, self.keys);
        let values = draws.distinct(self.pairs, self.values);
        let mut sequence = Sequence::default();
        for pair in 0..self.pairs {
            sequence.given(keys[pair]);
            sequence.given(self.keys + values[pair]);
        }
        // With replacement: were every key asked once, the values already named would narrow the guess, and elimination
        // alone would beat the stated chance.
        for _ in 0..self.queries {
            let pair = draws.below(self.pairs);
            sequence.given(keys[pair]);
            sequence.answer(self.keys + values[pair]);
        }
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Task, TaskBatch};
    use std::collections::BTreeMap;

    fn batch() -> TaskBatch {
        Task::Recall(KeyValueRecall::preset()).batch(Seed(0), Split::Train, 0, 50).unwrap()
    }

    #[test]
    fn every_answer_is_the_value_its_key_had_before() {
        let batch = batch();
        for index in 0..50 {
            let ids = batch.tokens().sequence(index);
            let known: BTreeMap<u32, u32> = ids[..8].chunks(2).map(|pair| (pair[0], pair[1])).collect();
            assert_eq!(known.len(), 4);
            assert!(ids[8..].chunks(2).all(|query| known[&query[0]] == query[1]));
        }
    }

    #[test]
    fn splits_have_other_sequences() {
        let task = Task::Recall(KeyValueRecall::preset());
        let test = task.batch(Seed(0), Split::Test, 0, 50).unwrap();
        assert_ne!(test, batch());
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for (pairs, queries, keys, values) in [(1, 1, 9, 9), (4, 4, 3, 9), (4, 4, 9, 3), (4, 0, 9, 9)] {
            assert!(KeyValueRecall::new(pairs, queries, keys, values).is_err());
        }
        assert!(KeyValueRecall::new(8, 4, 8, 8).is_ok());
        assert!(KeyValueRecall::new(4, 5, 9, 9).is_ok());
    }
}

//! Random facts to know by heart.

use moescope_base::Seed;

use super::batch::Sequence;
use crate::draws::Draws;
use crate::error::CorpusError;
use crate::permutation::Permutation;
use crate::split::Split;

/// `facts` facts, each a name of `name_length` tokens followed by `values` value tokens drawn
/// uniformly and independently: nothing but memory helps, and the bits to remember are known exactly.
///
/// Name tokens are ids `0..names`, value tokens `names..names + alphabet`. A sequence holds several
/// facts, one after the other. Training and test are the same facts; the test goes through them in
/// order, so `facts / (facts per sequence × batch)` steps see each once.
///
/// - **Source:** random facts as in "phonebook" memorisation (Jelassi et al. 2024) with the counting
///   in bits of Allen-Zhu and Li 2024 ("Physics of language models 3.3").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorisedFacts {
    facts: usize,
    name_length: usize,
    names: usize,
    values: usize,
    alphabet: usize,
    facts_per_sequence: usize,
}

impl MemorisedFacts {
    /// The task's name in tables.
    pub const NAME: &'static str = "memorised facts";

    /// The task with the given sizes.
    ///
    /// # Errors
    /// [`CorpusError::TaskSizes`] when a size is zero, the alphabet below 2, or there are more facts
    /// than names.
    pub fn new(
        facts: usize,
        name_length: usize,
        names: usize,
        values: usize,
        alphabet: usize,
        facts_per_sequence: usize,
    ) -> Result<Self, CorpusError> {
        let refused = |problem| Err(CorpusError::TaskSizes { task: Self::NAME, problem });
        if [facts, name_length, names, values, facts_per_sequence].contains(&0) || alphabet < 2 {
            return refused(format!(
                "found {facts} facts, names of {name_length} from {names} tokens, {values} values from an alphabet of {alphabet}, {facts_per_sequence} facts per sequence; wanted at least 1 of each and an alphabet of 2"
            ));
        }
        let possible = u32::try_from(name_length).ok().and_then(|length| names.checked_pow(length));
        if possible.is_some_and(|possible| possible < facts) {
            return refused(format!("{facts} facts need as many names; {names}^{name_length} are fewer"));
        }
        let Some(_) = possible else {
            return refused(format!("{names}^{name_length} names are too many to number"));
        };
        Ok(Self { facts, name_length, names, values, alphabet, facts_per_sequence })
    }

    /// 1,024 facts: names of 2 tokens from 64, 2 values from an alphabet of 32 (10 bits per fact),
    /// 16 facts in 64 positions.
    pub fn preset() -> Self {
        Self { facts: 1024, name_length: 2, names: 64, values: 2, alphabet: 32, facts_per_sequence: 16 }
    }

    /// Number of facts.
    pub fn facts(&self) -> usize {
        self.facts
    }

    /// Facts in one sequence.
    pub fn facts_per_sequence(&self) -> usize {
        self.facts_per_sequence
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.names + self.alphabet
    }

    /// Tokens per sequence.
    pub fn positions(&self) -> usize {
        self.facts_per_sequence * (self.name_length + self.values)
    }

    /// `1 / alphabet`: values are uniform and unrelated.
    pub fn chance_accuracy(&self) -> f64 {
        1.0 / self.alphabet as f64
    }

    /// Bits that one fact holds: `values × log2(alphabet)`. The name is given, so it holds none.
    pub fn bits_per_fact(&self) -> f64 {
        self.values as f64 * (self.alphabet as f64).log2()
    }

    /// Bits that a model recalls of all facts together, from its mean loss at the answers.
    ///
    /// `facts × values × max(0, log2(alphabet) - loss / ln 2)`, with the loss in nats.
    ///
    /// - **Unit and range:** bits, from 0 to `facts × bits_per_fact`.
    /// - **Does not show:** bits that the model knows but is unsure about in unequal measure: a mean
    ///   loss worse than guessing counts as nothing, though single facts may be known.
    pub fn bits_recalled(&self, mean_answer_loss: f64) -> f64 {
        let per_value = (self.alphabet as f64).log2() - mean_answer_loss / std::f64::consts::LN_2;
        (self.facts * self.values) as f64 * per_value.max(0.0)
    }

    pub(super) fn sequence(&self, seed: Seed, split: Split, index: u64) -> Sequence {
        let mut sequence = Sequence::default();
        for place in 0..self.facts_per_sequence {
            let draw = index as usize * self.facts_per_sequence + place;
            let (epoch, within) = (draw / self.facts, draw % self.facts);
            let fact = match split {
                Split::Train => {
                    Permutation::new(seed.child("facts order").index(epoch as u64), self.facts).at(within)
                }
                Split::Validation | Split::Test => within,
            };
            self.write(seed, fact, &mut sequence);
        }
        sequence
    }

    /// Writes one fact: its name, given, and its values, to be predicted.
    fn write(&self, seed: Seed, fact: usize, sequence: &mut Sequence) {
        let possible = self.names.pow(self.name_length as u32);
        let mut name = Permutation::new(seed.child("facts names"), possible).at(fact);
        for _ in 0..self.name_length {
            sequence.given(name % self.names);
            name /= self.names;
        }
        let mut draws = Draws::new(seed, "facts values", fact as u64);
        for _ in 0..self.values {
            sequence.answer(self.names + draws.below(self.alphabet));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Task;
    use std::collections::BTreeMap;

    fn seen(split: Split) -> BTreeMap<Vec<u32>, Vec<u32>> {
        let batch = Task::Facts(MemorisedFacts::preset()).batch(Seed(5), split, 0, 64).unwrap();
        batch.tokens().ids().chunks(4).map(|fact| (fact[..2].to_vec(), fact[2..].to_vec())).collect()
    }

    #[test]
    fn an_epoch_of_training_and_the_test_are_the_same_facts() {
        // 64 sequences of 16 facts are all 1,024 facts, each once.
        assert_eq!(seen(Split::Train).len(), 1024);
        assert_eq!(seen(Split::Train), seen(Split::Test));
    }

    #[test]
    fn bits_are_counted_exactly() {
        let facts = MemorisedFacts::preset();
        assert_eq!(facts.bits_per_fact(), 10.0);
        assert_eq!(facts.bits_recalled(0.0), 10_240.0);
        assert!(facts.bits_recalled(32f64.ln()).abs() < 1e-9);
        assert_eq!(facts.bits_recalled(100.0), 0.0);
    }

    #[test]
    fn more_facts_than_names_are_refused() {
        let error = MemorisedFacts::new(10, 2, 3, 1, 2, 1).unwrap_err().to_string();
        assert!(error.contains("3^2"), "{error}");
        assert!(MemorisedFacts::new(9, 2, 3, 1, 2, 1).is_ok());
        assert!(MemorisedFacts::new(9, 2, 3, 1, 1, 1).is_err());
        assert!(MemorisedFacts::new(9, 200, 30, 1, 2, 1).is_err());
    }
}

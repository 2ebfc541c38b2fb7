//! Arithmetic modulo a number.

use moescope_base::Seed;

use super::batch::Sequence;
use crate::draws::Draws;
use crate::error::CorpusError;
use crate::permutation::Permutation;
use crate::split::Split;

/// One problem in this many is held out for validation, and as many for test.
const HELD_OUT: usize = 8;

/// What is done with the two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `a + b mod p`.
    Add,
    /// `a - b mod p`.
    Subtract,
}

/// Problems `a op b = c` with `c = a op b mod p`, several in one sequence.
///
/// Numbers are ids `0..p`, each a single token; then one id per operation, then `=`. Of all
/// `p × p × operations` problems an eighth, chosen by the seed, is held out for test, another for
/// validation: right answers there show a rule, not memory (for addition, knowing that
/// `a + b = b + a` is already part of a rule).
///
/// - **Source:** modular addition as in Power et al. 2022 ("Grokking").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModularArithmetic {
    modulus: usize,
    operations: Vec<Operation>,
    problems_per_sequence: usize,
}

impl ModularArithmetic {
    /// The task's name in tables.
    pub const NAME: &'static str = "modular arithmetic";

    /// The task with the given sizes; repeated operations count once.
    ///
    /// # Errors
    /// [`CorpusError::TaskSizes`] for a modulus below 3, no operation, or no problem per sequence.
    pub fn new(
        modulus: usize,
        operations: &[Operation],
        problems_per_sequence: usize,
    ) -> Result<Self, CorpusError> {
        if modulus < 3 || operations.is_empty() || problems_per_sequence == 0 {
            let problem = format!(
                "modulus {modulus}, {} operations and {problems_per_sequence} problems per sequence; wanted at least 3, 1 and 1",
                operations.len()
            );
            return Err(CorpusError::TaskSizes { task: Self::NAME, problem });
        }
        let mut different = Vec::new();
        for &operation in operations {
            if !different.contains(&operation) {
                different.push(operation);
            }
        }
        Ok(Self { modulus, operations: different, problems_per_sequence })
    }

    /// Addition modulo 17, 12 problems in 60 positions.
    pub fn preset() -> Self {
        Self { modulus: 17, operations: vec![Operation::Add], problems_per_sequence: 12 }
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.modulus + self.operations.len() + 1
    }

    /// Tokens per sequence.
    pub fn positions(&self) -> usize {
        5 * self.problems_per_sequence
    }

    /// `1 / modulus`: all results are equally frequent.
    pub fn chance_accuracy(&self) -> f64 {
        1.0 / self.modulus as f64
    }

    /// Number of different problems in a split.
    pub fn problems(&self, split: Split) -> usize {
        let (first, end) = self.range(split);
        end - first
    }

    /// Where a split's problems lie in the shuffled list of all problems.
    fn range(&self, split: Split) -> (usize, usize) {
        let all = self.modulus * self.modulus * self.operations.len();
        let held_out = (all / HELD_OUT).max(1);
        match split {
            Split::Test => (0, held_out),
            Split::Validation => (held_out, 2 * held_out),
            Split::Train => (2 * held_out, all),
        }
    }

    pub(super) fn sequence(&self, seed: Seed, split: Split, index: u64) -> Sequence {
        let (first, end) = self.range(split);
        let all = self.modulus * self.modulus * self.operations.len();
        let shuffled = Permutation::new(seed.child("modular problems"), all);
        let mut draws = Draws::new(seed.child(Self::NAME).child(split.name()), "sequence", index);
        let mut sequence = Sequence::default();
        for _ in 0..self.problems_per_sequence {
            self.write(shuffled.at(first + draws.below(end - first)), &mut sequence);
        }
        sequence
    }

    /// Writes the problem of a number: `a op b =`, given, and the result, to be predicted.
    fn write(&self, number: usize, sequence: &mut Sequence) {
        let p = self.modulus;
        let (left, right, operation) = (number % p, number / p % p, number / (p * p));
        let result = match self.operations[operation] {
            Operation::Add => (left + right) % p,
            Operation::Subtract => (left + p - right) % p,
        };
        sequence.given(left);
        sequence.given(p + operation);
        sequence.given(right);
        sequence.given(p + self.operations.len());
        sequence.answer(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Task;
    use std::collections::BTreeSet;

    fn problems(split: Split) -> BTreeSet<Vec<u32>> {
        let task = ModularArithmetic::new(7, &[Operation::Add, Operation::Subtract], 4).unwrap();
        let batch = Task::Modular(task).batch(Seed(2), split, 0, 200).unwrap();
        batch.tokens().ids().chunks(5).map(<[u32]>::to_vec).collect()
    }

    #[test]
    fn results_are_right() {
        // Ids: 0..=6 numbers, 7 plus, 8 minus, 9 equals.
        for problem in problems(Split::Train) {
            let [a, op, b, equals, c] = problem[..] else { panic!("five tokens") };
            assert_eq!(equals, 9);
            let wanted = if op == 7 { (a + b) % 7 } else { (a + 7 - b) % 7 };
            assert_eq!(c, wanted, "{problem:?}");
        }
    }

    #[test]
    fn held_out_problems_are_never_trained_on() {
        let (train, validation, test) =
            (problems(Split::Train), problems(Split::Validation), problems(Split::Test));
        assert!(train.is_disjoint(&test) && train.is_disjoint(&validation) && test.is_disjoint(&validation));
        assert_eq!((test.len(), validation.len()), (12, 12)); // 98 / 8
        assert_eq!(train.len(), 74);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(ModularArithmetic::new(2, &[Operation::Add], 1).is_err());
        assert!(ModularArithmetic::new(5, &[], 1).is_err());
        assert!(ModularArithmetic::new(5, &[Operation::Add], 0).is_err());
        assert_eq!(ModularArithmetic::new(5, &[Operation::Add; 2], 1).unwrap().vocabulary(), 7);
    }
}

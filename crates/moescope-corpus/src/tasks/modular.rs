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
/// problems an eighth, chosen by the seed, is held out for test, another for validation.
///
/// - **Does not show:** addition, by itself. `a + b` may be held out while its twin `b + a` is trained
///   on, so a right answer shows at least that order does not matter; see
///   [`ModularArithmetic::without_twins`] for the stricter split.
/// - **Source:** modular addition as in Power et al. 2022 ("Grokking").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModularArithmetic {
    modulus: usize,
    operations: Vec<Operation>,
    problems_per_sequence: usize,
    twins: bool,
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
        Ok(Self { modulus, operations: different, problems_per_sequence, twins: true })
    }

    /// Addition modulo 17, 12 problems in 60 positions.
    pub fn preset() -> Self {
        Self { modulus: 17, operations: vec![Operation::Add], problems_per_sequence: 12, twins: true }
    }

    /// The same task with sums held out in both orders: `a + b` and `b + a` count as one problem.
    ///
    /// Much harder: a small model then knows the training sums by heart long before it gets a single
    /// test sum right, if it ever does.
    pub fn without_twins(self) -> Self {
        Self { twins: false, ..self }
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

    /// Number of different problems in a split; without twins, `a + b` and `b + a` are one.
    pub fn problems(&self, split: Split) -> usize {
        let (first, end) = self.range(split);
        end - first
    }

    /// Different problems of one operation.
    fn problems_of(&self, operation: Operation) -> usize {
        let p = self.modulus;
        match operation {
            Operation::Add if !self.twins => p * (p + 1) / 2,
            Operation::Add | Operation::Subtract => p * p,
        }
    }

    fn all_problems(&self) -> usize {
        self.operations.iter().map(|&operation| self.problems_of(operation)).sum()
    }

    /// Where a split's problems lie in the shuffled list of all problems.
    fn range(&self, split: Split) -> (usize, usize) {
        let all = self.all_problems();
        let held_out = (all / HELD_OUT).max(1);
        match split {
            Split::Test => (0, held_out),
            Split::Validation => (held_out, 2 * held_out),
            Split::Train => (2 * held_out, all),
        }
    }

    pub(super) fn sequence(&self, seed: Seed, split: Split, index: u64) -> Sequence {
        let (first, end) = self.range(split);
        let shuffled = Permutation::new(seed.child("modular problems"), self.all_problems());
        let mut draws = Draws::new(seed.child(Self::NAME).child(split.name()), "sequence", index);
        let mut sequence = Sequence::default();
        for _ in 0..self.problems_per_sequence {
            let number = shuffled.at(first + draws.below(end - first));
            self.write(number, draws.below(2) == 1, &mut sequence);
        }
        sequence
    }

    /// Writes the problem of a number: `a op b =`, given, and the result, to be predicted.
    fn write(&self, mut number: usize, turned: bool, sequence: &mut Sequence) {
        let mut place = 0;
        while number >= self.problems_of(self.operations[place]) {
            number -= self.problems_of(self.operations[place]);
            place += 1;
        }
        let p = self.modulus;
        let operation = self.operations[place];
        let (left, right) = match (operation, self.twins, turned) {
            (Operation::Add, false, false) => unordered_pair(number, p),
            (Operation::Add, false, true) => {
                let (small, large) = unordered_pair(number, p);
                (large, small)
            }
            _ => (number % p, number / p),
        };
        let result = match operation {
            Operation::Add => (left + right) % p,
            Operation::Subtract => (left + p - right) % p,
        };
        sequence.given(left);
        sequence.given(p + place);
        sequence.given(right);
        sequence.given(p + self.operations.len());
        sequence.answer(result);
    }
}

/// The pair of a number below `p (p + 1) / 2`: the pairs `a ≤ b < p`, ordered by `a` and then `b`.
fn unordered_pair(mut number: usize, p: usize) -> (usize, usize) {
    let mut small = 0;
    while number >= p - small {
        number -= p - small;
        small += 1;
    }
    (small, small + number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Task;
    use std::collections::BTreeSet;

    fn both() -> ModularArithmetic {
        ModularArithmetic::new(7, &[Operation::Add, Operation::Subtract], 4).unwrap()
    }

    fn problems(task: ModularArithmetic, split: Split) -> BTreeSet<Vec<u32>> {
        let batch = Task::Modular(task).batch(Seed(2), split, 0, 200).unwrap();
        batch.tokens().ids().chunks(5).map(<[u32]>::to_vec).collect()
    }

    #[test]
    fn results_are_right() {
        // Ids: 0..=6 numbers, 7 plus, 8 minus, 9 equals.
        for problem in
            problems(both(), Split::Train).into_iter().chain(problems(both().without_twins(), Split::Train))
        {
            let [a, op, b, equals, c] = problem[..] else { panic!("five tokens") };
            assert_eq!(equals, 9);
            let wanted = if op == 7 { (a + b) % 7 } else { (a + 7 - b) % 7 };
            assert_eq!(c, wanted, "{problem:?}");
        }
    }

    #[test]
    fn held_out_problems_are_never_trained_on() {
        let [train, validation, test] =
            [Split::Train, Split::Validation, Split::Test].map(|split| problems(both(), split));
        assert!(train.is_disjoint(&test) && train.is_disjoint(&validation) && test.is_disjoint(&validation));
        // 49 sums and 49 differences are 98 problems; an eighth is 12.
        assert_eq!((train.len(), validation.len(), test.len()), (74, 12, 12));
    }

    #[test]
    fn without_twins_sums_are_held_out_in_both_orders() {
        let either = |split| -> BTreeSet<Vec<u32>> {
            let sorted = |mut problem: Vec<u32>| {
                if problem[1] == 7 && problem[0] > problem[2] {
                    problem.swap(0, 2);
                }
                problem
            };
            problems(both().without_twins(), split).into_iter().map(sorted).collect()
        };
        let (train, validation, test) =
            (either(Split::Train), either(Split::Validation), either(Split::Test));
        assert!(train.is_disjoint(&test) && train.is_disjoint(&validation) && test.is_disjoint(&validation));
        // 28 sums and 49 differences are 77 problems; an eighth is 9.
        assert_eq!((train.len(), validation.len(), test.len()), (59, 9, 9));
    }

    #[test]
    fn unordered_pairs_come_once_each() {
        let pairs: Vec<_> = (0..6).map(|number| unordered_pair(number, 3)).collect();
        assert_eq!(pairs, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(ModularArithmetic::new(2, &[Operation::Add], 1).is_err());
        assert!(ModularArithmetic::new(5, &[], 1).is_err());
        assert!(ModularArithmetic::new(5, &[Operation::Add], 0).is_err());
        assert_eq!(ModularArithmetic::new(5, &[Operation::Add; 2], 1).unwrap().vocabulary(), 7);
    }
}

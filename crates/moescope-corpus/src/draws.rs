//! Random draws of the few kinds that corpora and tasks need.
//!
//! They are written out here, over the seed's own generator, so that the data of a seed stays the
//! same when a random-number library changes how it turns bits into ranges.

use moescope_base::Seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A stream of random draws.
pub(crate) struct Draws {
    generator: ChaCha8Rng,
}

impl Draws {
    /// The stream that belongs to `seed`, `label` and `index`; other arguments give an unrelated one.
    pub(crate) fn new(seed: Seed, label: &str, index: u64) -> Self {
        Self { generator: seed.child(label).index(index).rng() }
    }

    /// The next 64 random bits.
    pub(crate) fn word(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number below `bound`, all equally likely (up to a bias below `bound / 2^64`).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        debug_assert!(bound > 0, "no number is below zero");
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }

    /// `count` different numbers below `bound`, in random order.
    pub(crate) fn distinct(&mut self, count: usize, bound: usize) -> Vec<usize> {
        debug_assert!(count <= bound, "cannot draw more different numbers than there are");
        let mut numbers: Vec<usize> = (0..bound).collect();
        for place in 0..count {
            let other = place + self.below(bound - place);
            numbers.swap(place, other);
        }
        numbers.truncate(count);
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_arguments_same_stream_other_arguments_another() {
        let first = |seed, label: &str, index| Draws::new(Seed(seed), label, index).word();
        assert_eq!(first(1, "a", 2), first(1, "a", 2));
        assert_ne!(first(1, "a", 2), first(1, "b", 2));
        assert_ne!(first(1, "a", 2), first(2, "a", 2));
        assert_ne!(first(1, "a", 2), first(1, "a", 3));
    }

    #[test]
    fn draws_below_a_bound_are_even() {
        let mut draws = Draws::new(Seed(0), "even", 0);
        let mut counts = [0usize; 5];
        for _ in 0..10_000 {
            counts[draws.below(5)] += 1;
        }
        // Five standard deviations of a binomial with n = 10,000 and p = 0.2 are 200.
        assert!(counts.iter().all(|&count| count.abs_diff(2000) < 200), "{counts:?}");
    }

    #[test]
    fn distinct_numbers_do_not_repeat() {
        let mut numbers = Draws::new(Seed(3), "distinct", 0).distinct(10, 10);
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    }
}

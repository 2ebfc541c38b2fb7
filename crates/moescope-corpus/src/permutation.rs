//! A pseudo-random permutation that can be asked for one place at a time.

use moescope_base::Seed;

/// Rounds of the Feistel network; four already pass as random for its size, six are for good measure.
const ROUNDS: usize = 6;

/// An order of the numbers `0..len`, chosen by a seed.
///
/// [`Permutation::at`] needs no table and no earlier call, so a resumed run finds its place at once.
///
/// - **Source:** Feistel network with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary
///   finite domains").
/// - **Does not show:** every permutation; only as many as there are seeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..len` that belongs to the seed; `len` is at least 1.
    pub(crate) fn new(seed: Seed, len: usize) -> Self {
        debug_assert!(len > 0, "there is no order of nothing");
        let len = len as u64;
        let bits = 64 - (len - 1).leading_zeros();
        let keys = std::array::from_fn(|round| seed.index(round as u64).0);
        Self { len, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// The number at a place below `len`.
    pub(crate) fn at(&self, place: usize) -> usize {
        debug_assert!((place as u64) < self.len, "a place beyond the end");
        let mut number = place as u64;
        loop {
            // The network permutes a power of four at most four times `len`, so this ends soon.
            number = self.network(number);
            if number < self.len {
                return number as usize;
            }
        }
    }

    fn network(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for &key in &self.keys {
            let mixed = Seed(key).index(right).0 & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_once(seed in any::<u64>(), len in 1usize..300) {
            let permutation = Permutation::new(Seed(seed), len);
            let mut seen = vec![false; len];
            for place in 0..len {
                let number = permutation.at(place);
                prop_assert!(!seen[number]);
                seen[number] = true;
            }
        }
    }

    #[test]
    fn each_number_is_equally_likely_in_the_first_place() {
        let mut counts = [0usize; 7];
        for seed in 0..7000 {
            counts[Permutation::new(Seed(seed), 7).at(0)] += 1;
        }
        // Five standard deviations of a binomial with n = 7,000 and p = 1/7 are about 146.
        assert!(counts.iter().all(|&count| count.abs_diff(1000) < 150), "{counts:?}");
    }
}

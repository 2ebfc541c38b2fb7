//! A random circle: who takes the place of whom.
//!
//! A circle rather than any permutation, because a control in which some keep their own place is a weaker one.

use moescope_base::Seed;
use rand::RngExt;

/// For each of `n` members the one whose place it takes: one circle through all of them (Sattolo 1986), so with two or more
/// members nobody takes its own place. A function of seed and `n` alone.
pub(crate) fn circle(seed: u64, n: usize) -> Vec<usize> {
    let mut next: Vec<usize> = (0..n).collect();
    let mut rng = Seed(seed).child("circle").rng();
    for last in (1..n).rev() {
        next.swap(last, rng.random_range(0..last));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_circle_goes_through_all(seed: u64, n in 1usize..60) {
            let next = circle(seed, n);
            let (mut at, mut steps) = (next[0], 1);
            while at != 0 {
                prop_assert!(n == 1 || next[at] != at);
                at = next[at];
                steps += 1;
            }
            prop_assert_eq!(steps, n);
            prop_assert_eq!(&next, &circle(seed, n));
        }
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(circle(1, 30), circle(2, 30));
        assert_eq!(circle(1, 0), Vec::<usize>::new());
    }
}

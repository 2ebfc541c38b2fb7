//! How often each of very many things occurs, in bounded memory, whatever the order.

/// Counts of 64-bit keys: all of them while they fit, then those of an even sample of the distinct keys.
///
/// A key is kept while it is below `2^(64 − level)`. Keys are hashes, so this keeps each distinct key with probability `2^−level`, and a key
/// that is kept was counted from its first occurrence on: its count is exact. The level is the lowest at which the distinct keys
/// fit, so the state depends on what was counted and never on its order or parts. Space-Saving and the like have no such law.
///
/// - **Error:** at level 0 none. Else sums over keys are estimated by `2^level` times the sum over kept keys, without bias; with about 10⁶ kept
///   keys the number of distinct keys is known to 0.1 %. Two of `n` distinct things share a key with probability `n²/2⁶⁵`.
/// - **Source:** distinct sampling, Gibbons 2001, "Distinct sampling for highly-accurate answers to distinct values queries".
#[derive(Clone, Debug)]
pub struct KeySample {
    capacity: usize,
    level: u32,
    /// Distinct keys that are kept.
    kept: usize,
    /// Open addressing by the low bits; a count of 0 is an empty place.
    slots: Vec<(u64, u32)>,
}

impl PartialEq for KeySample {
    fn eq(&self, other: &KeySample) -> bool {
        (self.capacity, self.level) == (other.capacity, other.level) && self.sorted() == other.sorted()
    }
}

/// Places at the beginning.
const FIRST_PLACES: usize = 64;

impl KeySample {
    /// No key yet; at most `capacity` distinct keys are kept, one at least.
    pub fn new(capacity: usize) -> KeySample {
        KeySample { capacity: capacity.max(1), level: 0, kept: 0, slots: vec![(0, 0); FIRST_PLACES] }
    }

    /// Counts a key, which must be a hash.
    #[inline]
    pub fn add(&mut self, key: u64) {
        self.add_times(key, 1);
    }

    /// Counts a key that occurred so many times.
    #[inline]
    pub fn add_times(&mut self, key: u64, times: u32) {
        if !below(key, self.level) || times == 0 {
            return;
        }
        let place = self.place(key);
        if self.slots[place].1 == 0 {
            self.slots[place].0 = key;
            self.kept += 1;
        }
        // A count that is full stays full: no text that is admitted fills it.
        self.slots[place].1 = self.slots[place].1.saturating_add(times);
        if self.kept > self.capacity {
            self.raise(self.level + 1);
        } else if 2 * self.kept > self.slots.len() {
            self.rebuild(2 * self.slots.len());
        }
    }

    /// Adds what another sample of the same capacity counted.
    pub fn merge(&mut self, other: &KeySample) {
        self.raise(other.level);
        other.sorted().into_iter().for_each(|(key, times)| self.add_times(key, times));
    }

    /// Drops what a higher level does not keep.
    pub(super) fn raise(&mut self, level: u32) {
        if level > self.level {
            self.level = level;
            self.rebuild(self.slots.len());
            // Where chance kept too many, the next level must do.
            if self.kept > self.capacity {
                self.raise(level + 1);
            }
        }
    }

    /// Level of the sample; 0 where every key is kept.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Kept keys with their counts, by key.
    pub fn sorted(&self) -> Vec<(u64, u32)> {
        let mut kept: Vec<(u64, u32)> = self.slots.iter().copied().filter(|slot| slot.1 > 0).collect();
        kept.sort_unstable();
        kept
    }

    /// Estimated number of distinct keys, and its standard error.
    pub fn distinct(&self) -> (f64, f64) {
        self.total(|_| 1.0)
    }

    /// Sum over distinct keys of `part(count)`, estimated, and its standard error: `Σ part² (1 − p)/p²` over the kept keys for a share `p`.
    pub fn total(&self, part: impl Fn(u32) -> f64) -> (f64, f64) {
        let mut counts: Vec<u32> = self.slots.iter().map(|slot| slot.1).filter(|count| *count > 0).collect();
        // Ascending, so that places in the table do not change a bit of the sum.
        counts.sort_unstable();
        let scale = 2f64.powi(self.level as i32);
        let (mut sum, mut squares) = (0.0, 0.0);
        for run in counts.chunk_by(|a, b| a == b) {
            let one = part(run[0]);
            sum += run.len() as f64 * one;
            squares += run.len() as f64 * one * one;
        }
        (sum * scale, (squares * scale * (scale - 1.0)).sqrt())
    }

    fn place(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = key as usize & mask;
        while self.slots[place].1 != 0 && self.slots[place].0 != key {
            place = (place + 1) & mask;
        }
        place
    }

    fn rebuild(&mut self, places: usize) {
        let old = std::mem::replace(&mut self.slots, vec![(0, 0); places]);
        self.kept = 0;
        for (key, times) in old.into_iter().filter(|slot| slot.1 > 0 && below(slot.0, self.level)) {
            let place = self.place(key);
            self.slots[place] = (key, times);
            self.kept += 1;
        }
    }
}

pub(super) fn below(key: u64, level: u32) -> bool {
    level == 0 || key.leading_zeros() >= level
}

/// A hash of a number: the finaliser of SplitMix64, in which every bit depends on every bit.
#[inline]
pub(super) fn mixed(number: u64) -> u64 {
    let a = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ b >> 31
}

/// The number whose hash this is: every step of [`mixed`] can be undone.
pub(super) fn unmixed(hash: u64) -> u64 {
    // What was shifted out stands higher up, and comes back step by step.
    let unshift = |x: u64, by: u32| (0..64 / by).fold(x, |y, _| x ^ y >> by);
    let b = unshift(hash, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let a = unshift(b, 27).wrapping_mul(0x96de_1b17_3f11_9089);
    unshift(a, 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(capacity: usize, things: impl IntoIterator<Item = u64>) -> KeySample {
        let mut sample = KeySample::new(capacity);
        things.into_iter().for_each(|thing| sample.add(mixed(thing.wrapping_add(1))));
        sample
    }

    #[test]
    fn what_fits_is_exact() {
        let all = sample(1_000, (0..3_000).map(|i| i % 700));
        assert_eq!((all.level(), all.distinct()), (0, (700.0, 0.0)));
        assert_eq!(all.total(f64::from), (3_000.0, 0.0));
    }

    #[test]
    fn what_does_not_fit_is_estimated_within_its_error() {
        // Half of the things once, half three times.
        let things = (0..60_000u64).flat_map(|i| std::iter::repeat_n(i, if i % 2 == 0 { 1 } else { 3 }));
        let some = sample(2_000, things);
        assert!(some.sorted().len() <= 2_000 && some.level() >= 5);
        let (distinct, error) = some.distinct();
        assert!((distinct - 60_000.0).abs() < 4.0 * error && error < 2_000.0, "{distinct} {error}");
        let (once, error) = some.total(|count| f64::from(u32::from(count == 1)));
        assert!((once - 30_000.0).abs() < 4.0 * error, "{once}");
    }

    proptest! {
        #[test]
        fn hashes_are_undone(number in any::<u64>()) {
            prop_assert_eq!(unmixed(mixed(number)), number);
        }

        #[test]
        fn neither_order_nor_parts_matter(
            mut things in prop::collection::vec(0u64..300, 0..600),
            capacity in 1usize..80,
            cut in 0usize..600,
        ) {
            let whole = sample(capacity, things.clone());
            let (a, b) = things.split_at(cut.min(things.len()));
            let mut merged = sample(capacity, b.iter().copied());
            merged.merge(&sample(capacity, a.iter().copied()));
            prop_assert_eq!(&merged, &whole);
            things.reverse();
            prop_assert_eq!(&sample(capacity, things), &whole);
        }
    }
}

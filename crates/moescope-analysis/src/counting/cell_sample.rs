//! Rows of counts of very many things, in bounded memory, whatever the order.
//!
//! What is bounded are cells and not keys, since rows differ in length: a path that all domains take has a cell
//! for each, one that was taken once has one. A row is kept whole or not at all, so that what is told from it
//! is told from all of its tokens.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::key_sample::below;

/// Sparse rows of counts under 64-bit keys: all of them while their cells fit, then the rows of an even sample of the distinct keys.
///
/// As with [`KeySample`](super::KeySample), a key is kept while it is below `2^(64 − level)`, so that the rows that are kept are whole and exact, and
/// which ones follows from what was counted, never from its order or parts. The level is the lowest at which the cells fit.
///
/// - **Error:** at level 0 none. Else a ratio of sums over rows has the standard error that [`ratio`](Self::ratio) tells.
#[derive(Clone, Debug)]
pub struct CellSample {
    capacity: usize,
    level: u32,
    cells: usize,
    rows: HashMap<u64, Vec<(u32, u32)>, BuildHasherDefault<Spread>>,
}

/// Keys are hashes already; one product brings their bits to where the map looks.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 << 8 | u64::from(*byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl PartialEq for CellSample {
    fn eq(&self, other: &CellSample) -> bool {
        (self.capacity, self.level) == (other.capacity, other.level) && self.sorted() == other.sorted()
    }
}

/// A ratio of sums over sampled rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledRatio {
    /// The ratio; NaN where the sum below is 0.
    pub ratio: f64,
    /// Standard error of keeping some rows only; 0 where all were kept.
    pub error: f64,
}

impl CellSample {
    /// No row yet; at most `capacity` cells are kept, one at least.
    pub fn new(capacity: usize) -> CellSample {
        CellSample { capacity: capacity.max(1), level: 0, cells: 0, rows: HashMap::default() }
    }

    /// Whether the row of this key, a hash, is kept so far.
    #[inline]
    pub fn keeps(&self, key: u64) -> bool {
        below(key, self.level)
    }

    /// Counts so many of a code in the row of a key.
    #[inline]
    pub fn add(&mut self, key: u64, code: u32, times: u32) {
        if !self.keeps(key) || times == 0 {
            return;
        }
        let row = self.rows.entry(key).or_default();
        if let Some(cell) = row.iter_mut().find(|cell| cell.0 == code) {
            // As in a sample of keys, no text that is admitted fills a count.
            cell.1 = cell.1.saturating_add(times);
            return;
        }
        row.push((code, times));
        self.cells += 1;
        if self.cells > self.capacity {
            self.raise(self.level + 1);
        }
    }

    /// Drops what a higher level does not keep.
    pub(super) fn raise(&mut self, level: u32) {
        if level > self.level {
            self.level = level;
            self.rows.retain(|key, _| below(*key, level));
            self.cells = self.rows.values().map(Vec::len).sum();
            // Where chance kept too many, the next level must do.
            if self.cells > self.capacity {
                self.raise(level + 1);
            }
        }
    }

    /// Level of the sample; 0 where every row is kept.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Share of the distinct keys that are kept: 1 while all are, then halves of it. It is the probability that a
    /// key, whatever its counts, is among them.
    pub fn kept(&self) -> f64 {
        2f64.powi(-(self.level as i32))
    }

    /// Kept rows by key, each with its codes and counts by code.
    pub fn sorted(&self) -> Vec<(u64, Vec<(u32, u32)>)> {
        let mut rows: Vec<(u64, Vec<(u32, u32)>)> =
            self.rows.iter().map(|(key, row)| (*key, row.clone())).collect();
        rows.sort_unstable_by_key(|row| row.0);
        rows.iter_mut().for_each(|row| row.1.sort_unstable());
        rows
    }

    /// Sum of the first numbers of the rows over that of the second ones.
    ///
    /// Rows are kept independently with probability `p`, so that the error of the linearised ratio is `√((1 − p) Σ (a − r b)²) / Σ b` over those
    /// kept (Cochran 1977, §6.4, with Horvitz and Thompson's variance). Where few rows hold most of `b` it is a poor guide.
    pub fn ratio(rows: &[(f64, f64)], kept: f64) -> SampledRatio {
        let (above, beneath) = rows.iter().fold((0.0, 0.0), |sums, row| (sums.0 + row.0, sums.1 + row.1));
        let ratio = above / beneath;
        let squares: f64 = rows.iter().map(|(a, b)| (a - ratio * b).powi(2)).sum();
        SampledRatio { ratio, error: ((1.0 - kept) * squares).sqrt() / beneath }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_sample::mixed;
    use super::*;
    use proptest::prelude::*;

    fn sample(capacity: usize, things: &[(u64, u32)]) -> CellSample {
        let mut sample = CellSample::new(capacity);
        things.iter().for_each(|(thing, code)| sample.add(mixed(thing + 1), *code, 1));
        sample
    }

    #[test]
    fn what_fits_is_exact() {
        let rows = sample(10, &[(1, 4), (1, 2), (1, 4), (2, 4)]);
        let mut kept: Vec<Vec<(u32, u32)>> = rows.sorted().into_iter().map(|row| row.1).collect();
        kept.sort();
        assert_eq!((rows.level(), kept), (0, vec![vec![(2, 1), (4, 2)], vec![(4, 1)]]));
        let exact = CellSample::ratio(&[(1.0, 2.0), (0.0, 2.0)], rows.kept());
        assert_eq!((exact.ratio, exact.error), (0.25, 0.0));
    }

    #[test]
    fn what_does_not_fit_is_estimated_within_its_error() {
        // Of every third thing all counts are of code 1, of the others none; things differ in size.
        let covered = (0..200u64).filter(|seed| {
            let mut sample = CellSample::new(300);
            let mut truth = (0.0, 0.0);
            for thing in 0..3_000u64 {
                let (code, times) = (u32::from(thing % 3 == 0), 1 + (mixed(thing) % 5) as u32);
                sample.add(mixed(thing + 1 + 1_000_000 * seed), code, times);
                truth = (truth.0 + f64::from(code * times), truth.1 + f64::from(times));
            }
            assert!(sample.level() >= 3 && sample.sorted().len() <= 300);
            let of = |row: &[(u32, u32)]| {
                let sum = |wanted: fn(u32) -> bool| -> f64 {
                    row.iter().filter(|cell| wanted(cell.0)).map(|cell| f64::from(cell.1)).sum()
                };
                (sum(|code| code == 1), sum(|_| true))
            };
            let rows: Vec<(f64, f64)> = sample.sorted().iter().map(|row| of(&row.1)).collect();
            let found = CellSample::ratio(&rows, sample.kept());
            (found.ratio - truth.0 / truth.1).abs() < 1.96 * found.error
        });
        // 95 % of 200, give or take three deviations.
        let covered = covered.count();
        assert!((180..=199).contains(&covered), "{covered}");
    }

    proptest! {
        #[test]
        fn neither_order_nor_parts_matter(
            mut things in prop::collection::vec((0u64..100, 0u32..6), 0..400),
            capacity in 1usize..60,
        ) {
            let whole = sample(capacity, &things);
            things.reverse();
            prop_assert_eq!(&sample(capacity, &things), &whole);
            let (a, b) = things.split_at(things.len() / 2);
            let (mut merged, more) = (sample(capacity, a), sample(capacity, b));
            merged.raise(more.level());
            for (key, row) in more.sorted() {
                row.iter().for_each(|(code, times)| merged.add(key, *code, *times));
            }
            prop_assert_eq!(&merged, &whole);
        }
    }
}

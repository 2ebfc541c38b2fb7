//! An even sample of keys, with rows of counts for each that several layers keep side by side.
//!
//! All layers ask about the same pairs of tokens and the same documents. So the keys are sampled once, before
//! any layer counts a trace, and each layer has rows of plain numbers at the slots of the keys that are kept.
//! A key that has to go leaves its slot to another, and its row is cleared in all layers before it is used again.
//!
//! Slots depend on the order in which keys came; keys, rows and what is stored do not.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use moescope_trace::SumGroup;

use super::cell_sample::Spread;
use super::key_sample::below;

/// Distinct keys: all of them while they fit, then an even sample, as in [`KeySample`](super::KeySample). Each has a slot, at which layers keep its counts.
#[derive(Clone, Debug)]
pub(super) struct SampledKeys {
    capacity: usize,
    level: u32,
    slots: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    free: Vec<u32>,
}

impl SampledKeys {
    /// No key yet; at most `capacity` are kept, one at least.
    pub(super) fn new(capacity: usize) -> SampledKeys {
        SampledKeys { capacity: capacity.max(1), level: 0, slots: HashMap::default(), free: Vec::new() }
    }

    /// Level of the sample; 0 where every key is kept.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Share of the distinct keys that are kept.
    pub(super) fn kept(&self) -> f64 {
        2f64.powi(-(self.level as i32))
    }

    /// Takes up keys, which must be hashes. Slots of keys that had to go come back: their rows are to be cleared before anything is counted.
    #[must_use]
    pub(super) fn admit(&mut self, keys: impl IntoIterator<Item = u64>) -> Vec<u32> {
        let mut dropped = Vec::new();
        for key in keys {
            if !below(key, self.level) || self.slots.contains_key(&key) {
                continue;
            }
            let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
            self.slots.insert(key, slot);
            if self.slots.len() > self.capacity {
                dropped.extend(self.raise(self.level + 1));
            }
        }
        dropped
    }

    /// Drops what a higher level does not keep, and returns their slots.
    #[must_use]
    pub(super) fn raise(&mut self, level: u32) -> Vec<u32> {
        let mut dropped = Vec::new();
        // Where chance kept too many, the next level must do.
        while self.level < level || self.slots.len() > self.capacity {
            self.level = level.max(self.level + 1);
            self.slots.retain(|key, slot| {
                let stays = below(*key, self.level);
                if !stays {
                    dropped.push(*slot);
                }
                stays
            });
        }
        self.free.extend(&dropped);
        dropped
    }

    /// Slot of a key, if it is kept.
    #[inline]
    pub(super) fn slot(&self, key: u64) -> Option<u32> {
        if below(key, self.level) { self.slots.get(&key).copied() } else { None }
    }

    /// Kept keys in their order, each with its slot.
    pub(super) fn sorted(&self) -> Vec<(u64, u32)> {
        let mut kept: Vec<(u64, u32)> = self.slots.iter().map(|(key, slot)| (*key, *slot)).collect();
        kept.sort_unstable();
        kept
    }
}

/// Counts of one layer for the keys of a sample: `[slot, code]`.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    width: usize,
    counts: Vec<u32>,
}

impl Rows {
    pub(super) fn new(width: usize) -> Rows {
        Rows { width, counts: Vec::new() }
    }

    pub(super) fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            let first = *slot as usize * self.width;
            if let Some(row) = self.counts.get_mut(first..first + self.width) {
                row.fill(0);
            }
        }
    }

    pub(super) fn row_mut(&mut self, slot: u32) -> &mut [u32] {
        let first = slot as usize * self.width;
        if self.counts.len() < first + self.width {
            self.counts.resize(first + self.width, 0);
        }
        &mut self.counts[first..first + self.width]
    }

    /// Counts of a key by code; nothing where it has none.
    pub(super) fn row(&self, slot: u32) -> &[u32] {
        let first = slot as usize * self.width;
        self.counts.get(first..first + self.width).unwrap_or_default()
    }

    /// Key, code and count of each cell.
    pub(super) fn group(&self, statistic: &str, layer: i64, keys: &SampledKeys) -> SumGroup {
        let mut cells = Vec::new();
        for (key, slot) in keys.sorted() {
            let row = self.row(slot).iter().enumerate();
            cells.extend(row.map(|(code, count)| (key.cast_signed(), code as i64, i64::from(*count))));
        }
        cells.sort_unstable();
        SumGroup::of(statistic, layer, cells)
    }

    /// Adds a cell to the row of a slot; whether it fits.
    pub(super) fn add_cell(&mut self, slot: u32, code: i64, sum: i64) -> bool {
        let Some(code) = usize::try_from(code).ok().filter(|code| *code < self.width) else { return false };
        let cell = &mut self.row_mut(slot)[code];
        let all = i64::from(*cell).checked_add(sum).and_then(|all| u32::try_from(all).ok());
        all.map(|all| *cell = all).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_sample::mixed;
    use super::*;
    use proptest::prelude::*;

    /// Things counted under codes, in parts as traces are.
    fn counted(capacity: usize, parts: &[Vec<(u64, i64)>]) -> (u32, SumGroup) {
        let (mut keys, mut rows) = (SampledKeys::new(capacity), Rows::new(3));
        for part in parts {
            let dropped = keys.admit(part.iter().map(|(thing, _)| mixed(thing + 1)));
            rows.clear(&dropped);
            for (thing, code) in part {
                if let Some(slot) = keys.slot(mixed(thing + 1)) {
                    assert!(rows.add_cell(slot, *code, 1));
                }
            }
        }
        assert!(keys.sorted().len() <= capacity);
        (keys.level(), rows.group("x", 0, &keys))
    }

    #[test]
    fn what_fits_is_exact() {
        let (level, group) = counted(9, &[vec![(5, 2), (7, 0)], vec![(5, 2), (5, 1)]]);
        let mut sums = group.sums.clone();
        sums.sort_unstable();
        assert_eq!((level, sums), (0, vec![1, 1, 2]));
        let mut rows = Rows::new(3);
        assert!(!rows.add_cell(0, 3, 1) && !rows.add_cell(0, -1, 1) && !rows.add_cell(0, 0, -1));
    }

    proptest! {
        #[test]
        fn neither_order_nor_parts_matter(
            mut things in prop::collection::vec((0u64..60, 0i64..3), 0..300),
            capacity in 1usize..40,
            cut in 0usize..300,
        ) {
            let whole = counted(capacity, std::slice::from_ref(&things));
            let (a, b) = things.split_at(cut.min(things.len()));
            prop_assert_eq!(&counted(capacity, &[b.to_vec(), a.to_vec()]), &whole);
            things.reverse();
            prop_assert_eq!(&counted(capacity, &[things]), &whole);
        }
    }
}

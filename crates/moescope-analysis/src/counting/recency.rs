//! How recently the expert of a slot was used: what caches of experts find.

use moescope_base::Seed;
use moescope_trace::{LayerRouting, SumGroup};
use rand::seq::SliceRandom;

use super::layer::{Names, add_key_cell, rows_of};
use super::{CellSample, RatioSums};
use crate::expert_cache::{distances, rooms};

/// Stack distances of the slots of sampled documents: rows of `2 · distance`, and of `2 · distance + 1` with the document's tokens in random order.
///
/// A whole text would take a sweep over the stack for each slot. Documents are units of their own, so that an even sample of them tells the
/// same, with an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Recency {
    experts: usize,
    pub(super) documents: CellSample,
}

/// Hit rate at one size of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CountedHits {
    /// Experts of the layer that fit.
    pub room: usize,
    /// Share of slots found in the cache, over the documents that were kept.
    pub rate: f64,
    /// Its 95 % interval over these documents.
    pub interval: (f64, f64),
    /// The same with the tokens of each document in random order.
    pub null: f64,
    /// Documents kept.
    pub documents: u64,
}

const STATISTIC: &str = "stack_distances";

impl Recency {
    pub(super) fn new(experts: usize, cells: usize) -> Recency {
        Recency { experts, documents: CellSample::new(cells) }
    }

    /// Counts the documents of a trace that are kept so far.
    pub(super) fn add(&mut self, routing: &LayerRouting, names: &Names<'_>) {
        for (stretch, key) in names.documents.each() {
            if !self.documents.keeps(key) {
                continue;
            }
            let mut tokens: Vec<u32> = (stretch.start as u32..stretch.end as u32).collect();
            self.add_document(key, 0, &distances(routing, &tokens));
            // By the key, so that a document is shuffled alike wherever it is counted.
            tokens.shuffle(&mut Seed(key).child("recency").rng());
            self.add_document(key, 1, &distances(routing, &tokens));
        }
    }

    fn add_document(&mut self, key: u64, shuffled: u32, counts: &[u64]) {
        for (distance, count) in counts.iter().enumerate() {
            self.documents.add(key, 2 * distance as u32 + shuffled, *count as u32);
        }
    }

    /// Hit rates at growing sizes; nothing where no document was kept.
    pub fn hit_rates(&self) -> Vec<CountedHits> {
        let kept: Vec<[Vec<u64>; 2]> = self
            .documents
            .sorted()
            .into_iter()
            .map(|(_, cells)| {
                let mut counts = [vec![0u64; self.experts + 1], vec![0u64; self.experts + 1]];
                for (code, count) in cells {
                    counts[(code & 1) as usize][(code / 2) as usize] += u64::from(count);
                }
                counts
            })
            .collect();
        let documents = kept.len() as u64;
        let at = |room: usize| {
            let sums = |kind: usize| {
                let mut sums = RatioSums::default();
                kept.iter().for_each(|counts| {
                    let found: u64 = counts[kind][..room].iter().sum();
                    sums.add(found, counts[kind].iter().sum());
                });
                sums
            };
            let observed = sums(0);
            CountedHits {
                room,
                rate: observed.ratio(),
                interval: observed.interval(documents),
                null: sums(1).ratio(),
                documents,
            }
        };
        if kept.is_empty() { Vec::new() } else { rooms(self.experts).into_iter().map(at).collect() }
    }

    pub(super) fn group(&self, layer: i64) -> SumGroup {
        SumGroup::of(STATISTIC, layer, rows_of(&self.documents, |code| code))
    }

    /// Adds a cell of [`group`](Self::group); none where the statistic is another.
    pub(super) fn take(&mut self, statistic: &str, row: i64, column: i64, sum: i64) -> Option<bool> {
        let fits = || u32::try_from(column).is_ok_and(|code| code < 2 * (self.experts as u32 + 1));
        (statistic == STATISTIC).then(|| fits() && add_key_cell(&mut self.documents, row, column, sum))
    }
}

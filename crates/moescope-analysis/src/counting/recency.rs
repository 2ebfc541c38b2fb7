//! How recently the expert of a slot was used: what caches of experts find.

use moescope_base::Seed;
use moescope_trace::LayerRouting;
use rand::seq::SliceRandom;

use super::RatioSums;
use super::names::Names;
use super::sampled_keys::{Rows, SampledKeys};
use crate::expert_cache::{distances, rooms};

/// Hit rate at one size of the cache.
///
/// - **Unit and range:** share of routed slots, from 0 to 1, rising with the size; below 1 even where all
///   experts fit, since the first use in a document finds none.
/// - **Null:** the same documents, each with its tokens in random order. What is above comes from neighbours
///   that go the same way, and what the null itself has from a document that asks for few experts.
/// - **Does not show:** time, nor what prefetching or batches would save.
/// - **Source:** stack distances of Mattson et al. 1970; caches of experts as in Eliseev and Mazur 2023.
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

/// Counts the stack distances of documents that are kept: rows of `2 · distance`, and of `2 · distance + 1` with the document's tokens in random order.
///
/// A whole text would take a sweep over the stack for each slot. Documents are units of their own, so that an even sample of them tells the
/// same, with an interval.
pub(super) fn count(rows: &mut Rows, routing: &LayerRouting, names: &Names<'_>) {
    for (document, slot) in &names.sampled_documents {
        let stretch = names.documents.stretches[*document].clone();
        let mut tokens: Vec<u32> = (stretch.start as u32..stretch.end as u32).collect();
        let row = rows.row_mut(*slot);
        add(row, 0, &distances(routing, &tokens));
        // By the key, so that a document is shuffled alike wherever it is counted.
        tokens.shuffle(&mut Seed(names.documents.keys[*document]).child("recency").rng());
        add(row, 1, &distances(routing, &tokens));
    }
}

fn add(row: &mut [u32], shuffled: usize, counts: &[u64]) {
    let own = row.iter_mut().skip(shuffled).step_by(2);
    own.zip(counts).for_each(|(own, count)| *own += *count as u32);
}

/// Hit rates at growing sizes; nothing where no document was kept.
pub(super) fn hit_rates(keys: &SampledKeys, rows: &Rows, experts: usize) -> Vec<CountedHits> {
    let kept: Vec<&[u32]> = keys.sorted().into_iter().map(|(_, slot)| rows.row(slot)).collect();
    let at = |room: usize| {
        let sums = |shuffled: usize| {
            let mut sums = RatioSums::default();
            for row in &kept {
                let counts = || row.iter().skip(shuffled).step_by(2).map(|count| u64::from(*count));
                sums.add(counts().take(room).sum(), counts().sum());
            }
            sums
        };
        let (observed, documents) = (sums(0), kept.len() as u64);
        CountedHits {
            room,
            rate: observed.ratio(),
            interval: observed.interval(documents),
            null: sums(1).ratio(),
            documents,
        }
    };
    if kept.is_empty() { Vec::new() } else { rooms(experts).into_iter().map(at).collect() }
}

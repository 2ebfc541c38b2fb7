//! How often experts meet clusters, and what as many slots drawn from the layer meet.

use std::collections::BTreeMap;
use std::ops::Range;

use moescope_trace::LayerRouting;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{MULTINOMIAL_DRAWS, Marks, PROMOTED, Text, divergence};
use crate::routing::Permutations;

/// What is counted of a layer, document after document, so that counting walks through memory.
pub(super) struct Laid<'t> {
    /// Experts of each slot: `[place, slot]`.
    experts: Vec<u32>,
    /// Clusters of each slot: `[place, slot, promoted token]`, or `[place]` where they are those of the token that is sent.
    clusters: Vec<u32>,
    /// Places of each document.
    pub(super) documents: Vec<Range<usize>>,
    per_token: usize,
    layer: &'t LayerRouting,
    text: &'t Text<'t>,
}

impl<'t> Laid<'t> {
    pub(super) fn new(layer: &'t LayerRouting, text: &'t Text<'t>) -> Laid<'t> {
        let tokens = || text.documents.iter().flatten();
        let per_token = layer.per_token;
        let slots = match text.marks {
            Marks::Tokens(_) => 1,
            Marks::Answers { .. } => per_token,
        };
        let mut start = 0;
        let documents = text.documents.iter().map(|document| {
            start += document.len();
            start - document.len()..start
        });
        Laid {
            documents: documents.collect(),
            experts: tokens().flat_map(|token| layer.chosen(*token)).copied().collect(),
            clusters: tokens()
                .flat_map(|token| (0..slots).flat_map(|slot| text.marks.of(*token, slot)))
                .copied()
                .collect(),
            per_token,
            layer,
            text,
        }
    }

    /// The clusters of one place, and whether all slots share them.
    fn clusters(&self, place: usize) -> (&[u32], bool) {
        match self.text.marks {
            Marks::Tokens(_) => (&self.clusters[place..=place], true),
            Marks::Answers { .. } => {
                let width = self.per_token * PROMOTED;
                (&self.clusters[place * width..(place + 1) * width], false)
            }
        }
    }
}

/// Slots of each expert in each cluster: `[expert, cluster]`, and their sum over experts.
pub(super) struct Counts {
    counts: Vec<f64>,
    pub(super) all: Vec<f64>,
}

impl Counts {
    /// The routes of each document beside the tokens of the document that stands at its place in this order.
    pub(super) fn of(laid: &Laid<'_>, order: &[usize]) -> Counts {
        let mut counts = vec![0u32; laid.layer.experts * laid.text.clusters];
        for (routes, tokens) in laid.documents.iter().zip(order) {
            Counts::add(&mut counts, laid, routes, &laid.documents[*tokens]);
        }
        Counts::new(&counts, laid.text.clusters)
    }

    /// Counts with their sums.
    fn new(counts: &[u32], clusters: usize) -> Counts {
        let mut all = vec![0.0; clusters];
        for row in counts.chunks_exact(clusters) {
            all.iter_mut().zip(row).for_each(|(all, count)| *all += f64::from(*count));
        }
        Counts { counts: counts.iter().map(|count| f64::from(*count)).collect(), all }
    }

    /// Adds the routes of one document beside the tokens of another, which comes round where it is shorter.
    fn add(counts: &mut [u32], laid: &Laid<'_>, routes: &Range<usize>, tokens: &Range<usize>) {
        let size = laid.text.clusters;
        let mut other = tokens.start;
        let chosen = laid.experts[routes.start * laid.per_token..routes.end * laid.per_token]
            .chunks_exact(laid.per_token);
        for experts in chosen {
            let (clusters, shared) = laid.clusters(other);
            for (slot, expert) in experts.iter().enumerate() {
                let own = if shared { clusters } else { &clusters[slot * PROMOTED..(slot + 1) * PROMOTED] };
                own.iter().for_each(|cluster| counts[*expert as usize * size + *cluster as usize] += 1);
            }
            other = if other + 1 == tokens.end { tokens.start } else { other + 1 };
        }
    }

    /// The same without one document, its routes beside its own tokens.
    pub(super) fn without(&self, laid: &Laid<'_>, document: &Range<usize>) -> Counts {
        let mut own = vec![0u32; self.counts.len()];
        Counts::add(&mut own, laid, document, document);
        let own = Counts::new(&own, self.all.len());
        let less = |all: &[f64], own: &[f64]| all.iter().zip(own).map(|(all, own)| all - own).collect();
        Counts { counts: less(&self.counts, &own.counts), all: less(&self.all, &own.all) }
    }

    pub(super) fn row(&self, expert: usize) -> &[f64] {
        &self.counts[expert * self.all.len()..(expert + 1) * self.all.len()]
    }

    pub(super) fn slots(&self, expert: usize) -> f64 {
        self.row(expert).iter().sum()
    }

    fn experts(&self) -> usize {
        self.counts.len() / self.all.len()
    }

    /// Mean over experts of what each has, weighted by their slots.
    pub(super) fn weighted(&self, values: &[f64]) -> f64 {
        let parts = (0..self.experts()).map(|expert| self.slots(expert) * values[expert]);
        // Ascending, so that renaming the experts does not change a bit of the sum.
        let mut parts: Vec<f64> = parts.collect();
        parts.sort_unstable_by(f64::total_cmp);
        parts.iter().sum::<f64>() / self.all.iter().sum::<f64>()
    }

    pub(super) fn mean(&self) -> f64 {
        let own = |expert: usize| divergence(self.row(expert), &self.all);
        self.weighted(&(0..self.experts()).map(own).collect::<Vec<f64>>())
    }

    /// Mean divergence of as many slots as each expert has, drawn from those of the layer; `of_slot` clusters are counted for each.
    pub(super) fn multinomial(
        &self,
        kinds: &Kinds<'_>,
        of_slot: usize,
        permutations: Permutations,
    ) -> Vec<f64> {
        let draw = |expert: usize| {
            let slots = self.slots(expert) as usize / of_slot;
            // By the number of slots and not by name, so that renamed experts have the same draws.
            let mut rng = permutations.seed.child("multinomial").index(slots as u64).rng();
            let mut one = || {
                let mut drawn = vec![0.0; self.all.len()];
                for _ in 0..slots {
                    kinds.draw(&mut rng).iter().for_each(|cluster| drawn[*cluster as usize] += 1.0);
                }
                divergence(&drawn, &self.all)
            };
            (0..MULTINOMIAL_DRAWS).map(|_| one()).sum::<f64>() / MULTINOMIAL_DRAWS as f64
        };
        (0..self.experts()).into_par_iter().map(draw).collect()
    }
}

/// The different lists of clusters that slots of a layer are counted under, with the number of slots up to and with each.
pub(super) struct Kinds<'t> {
    kinds: Vec<&'t [u32]>,
    sums: Vec<f64>,
    /// For each of many equal parts of all slots the kind at its beginning, from which the kind of any slot is but a step or two away.
    ///
    /// **Source:** Chen and Asau 1974.
    guide: Vec<u32>,
}

/// Parts of the guide for each kind.
const PARTS: usize = 4;

impl<'t> Kinds<'t> {
    pub(super) fn of(layer: &LayerRouting, text: &'t Text<'_>) -> Kinds<'t> {
        let mut counts: BTreeMap<&[u32], f64> = BTreeMap::new();
        let tokens = || text.documents.iter().flatten();
        if let Marks::Tokens(of) = text.marks {
            let mut slots = vec![(0, 0.0); text.clusters]; // and a token of each cluster
            tokens().for_each(|token| {
                let (example, slots) = &mut slots[of[*token] as usize];
                (*example, *slots) = (*token, *slots + layer.per_token as f64);
            });
            let some = slots.into_iter().filter(|(_, slots)| *slots > 0.0);
            counts.extend(some.map(|(token, slots)| (&of[token..=token], slots)));
        } else {
            let each = tokens().flat_map(|token| (0..layer.per_token).map(move |slot| (*token, slot)));
            each.for_each(|(token, slot)| *counts.entry(text.marks.of(token, slot)).or_default() += 1.0);
        }
        let (kinds, counts): (Vec<&[u32]>, Vec<f64>) = counts.into_iter().unzip();
        let mut before = 0.0;
        let sums = counts.into_iter().map(|count| {
            before += count;
            before
        });
        let sums: Vec<f64> = sums.collect();
        let parts = PARTS * sums.len();
        let first = |part: usize| {
            let place = part as f64 / parts as f64 * before;
            sums.partition_point(|sum| *sum <= place) as u32
        };
        Kinds { guide: (0..parts).map(first).collect(), kinds, sums }
    }

    /// The clusters of one slot, drawn from all.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> &'t [u32] {
        let share = rng.random::<f64>();
        let (place, last) = (share * self.sums[self.sums.len() - 1], self.kinds.len() - 1);
        // Rounding may lead into the part behind.
        let part = (share * self.guide.len() as f64) as usize;
        let mut kind = self.guide[part.saturating_sub(1)] as usize;
        while kind < last && self.sums[kind] <= place {
            kind += 1;
        }
        self.kinds[kind.min(last)]
    }
}

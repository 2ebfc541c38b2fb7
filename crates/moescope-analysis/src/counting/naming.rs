//! Whether a path names the domain and the class of its tokens better than a single expert does.

use moescope_trace::SumGroup;

use super::halves::Judged;
use super::layer::{add_key_cell, rows_of};
use super::{CellSample, Contingency, SampledRatio};

/// What paths, or experts, are asked about.
pub(super) const NAMED: [&str; 2] = ["domain", "class"];

/// Labels of the tokens of each path: rows of `2 · mark` for domains and `2 · mark + 1` for classes, where a mark is `2 · label + half of the documents`.
#[derive(Clone, Debug, PartialEq)]
pub struct PathLabels(pub(super) CellSample);

/// How often the label that is most frequent on a path in one half of the documents is that of its tokens in the other, both ways.
///
/// - **Unit and range:** share of tokens, from 0 to 1.
/// - **Null:** the most frequent label of the other half, whatever the path. A path that the other half does not have names that one, so that rare
///   paths name little: compare `seen`.
/// - **Does not show:** that the path is taken because of the label; tokens of a domain are also other tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NamedByPath {
    /// Share of tokens that are named by their path.
    pub path: SampledRatio,
    /// Share of tokens whose path the other half has.
    pub seen: f64,
    /// Share that the most frequent label names.
    pub alone: f64,
    /// Share that the first choice of the best single layer names.
    pub expert: f64,
    /// That layer: a place among the routed ones.
    pub layer: usize,
    /// Share of the distinct paths that were kept.
    pub kept: f64,
}

impl PathLabels {
    pub(super) fn new(cells: usize) -> PathLabels {
        PathLabels(CellSample::new(cells))
    }

    /// Counts a token of a path; marks of domain and class.
    #[inline]
    pub(super) fn add(&mut self, path: u64, marks: [u32; 2]) {
        if self.0.keeps(path) {
            self.0.add(path, 2 * marks[0], 1);
            self.0.add(path, 2 * marks[1] + 1, 1);
        }
    }

    /// Cells with labels by rank.
    pub(super) fn group(&self, statistic: &str, ranks: [&[usize]; 2]) -> SumGroup {
        let code = |code: u32| {
            let (place, half, label) = (code % 2, code / 2 % 2, code / 4);
            4 * ranks[place as usize][label as usize] as u32 + 2 * half + place
        };
        SumGroup::of(statistic, -1, rows_of(&self.0, code))
    }

    /// Adds a cell of [`group`](Self::group), ranks by own names; whether it fits.
    pub(super) fn add_cell(&mut self, names: [&[u32]; 2], row: i64, column: i64, sum: i64) -> bool {
        let name = |rank: i64| names[(column & 1) as usize].get(usize::try_from(rank).ok()?);
        name(column / 4).is_some_and(|label| {
            add_key_cell(&mut self.0, row, 4 * i64::from(*label) + column.rem_euclid(4), sum)
        })
    }

    /// What paths name of the domain (0) or the class (1), given the tokens of each layer by label, half and first choice.
    ///
    /// `ranks` puts labels in the order of their names, by which equals are told apart. None where a half has no tokens.
    pub(super) fn named(
        &self,
        place: usize,
        layers: &[&Contingency],
        ranks: &[usize],
    ) -> Option<NamedByPath> {
        let first = layers.first()?;
        let all = by_half(ranks.len(), |label, half| {
            (0..first.codes()).map(|expert| first.count(2 * label + half, expert)).sum()
        });
        let alone = [most(&all[0], ranks)?, most(&all[1], ranks)?];
        let judge = |counts: &[Vec<u32>; 2]| {
            let named = [0, 1].map(|half| most(&counts[half], ranks).unwrap_or(alone[half]));
            Judged::of(counts, [&[named[0]], &[named[1]]])
        };
        let by_layer: Vec<f64> = layers
            .iter()
            .map(|layer| {
                let mut sums = Judged::default();
                for expert in 0..layer.codes() {
                    sums.add(judge(&by_half(ranks.len(), |label, half| {
                        layer.count(2 * label + half, expert)
                    })));
                }
                sums.overlap()
            })
            .collect();
        let layer =
            (0..by_layer.len()).max_by(|a, b| by_layer[*a].total_cmp(&by_layer[*b]).then(b.cmp(a)))?;
        let (mut named, mut seen) = (Vec::new(), Vec::new());
        for (_, cells) in self.0.sorted() {
            let mut counts = [vec![0u32; ranks.len()], vec![0u32; ranks.len()]];
            for (code, count) in cells.into_iter().filter(|cell| cell.0 as usize % 2 == place) {
                counts[(code / 2 % 2) as usize][(code / 4) as usize] += count;
            }
            let judged = judge(&counts);
            let tokens = judged.slots() as f64;
            named.push((judged.hits() as f64, tokens));
            seen.push((judged.seen() * tokens, tokens));
        }
        let kept = self.0.kept();
        Some(NamedByPath {
            path: CellSample::ratio(&named, kept),
            seen: CellSample::ratio(&seen, kept).ratio,
            alone: Judged::of(&all, [&[alone[0]], &[alone[1]]]).overlap(),
            expert: by_layer[layer],
            layer,
            kept,
        })
    }
}

/// Counts of each label in both halves: `[half][label]`.
fn by_half(labels: usize, count: impl Fn(usize, usize) -> u32) -> [Vec<u32>; 2] {
    [0, 1].map(|half| (0..labels).map(|label| count(label, half)).collect())
}

/// The label with the largest count, of equals the one with the first name; none where all are 0.
fn most(counts: &[u32], ranks: &[usize]) -> Option<usize> {
    let order = |label: &usize| (counts[*label], std::cmp::Reverse(ranks[*label]));
    (0..counts.len()).max_by_key(order).filter(|label| counts[*label] > 0)
}

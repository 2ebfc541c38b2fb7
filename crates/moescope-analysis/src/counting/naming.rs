//! Whether a path names the domain and the class of its tokens better than a single expert does.
//!
//! A path with one token is as pure as can be and says nothing. So names are given by one half of the documents
//! and judged on the other, for paths and for experts alike: a path that is never met again is of no use,
//! however pure it was.
//!
//! An example: of the tokens of a path the first half has three in novels and one in code, the second half two
//! and two. The first half names the path after novels, which is right for two of four tokens; the second, of
//! equals the first in the alphabet, after code, which is right for one of four.

use moescope_trace::SumGroup;

use super::halves::Judged;
use super::layer::rows_of;
use super::{CellSample, Contingency, SampledRatio};

/// What paths, or experts, are asked about.
pub(super) const NAMED: [&str; 2] = ["domain", "class"];

/// Labels of the tokens of each path: rows of `2 · pair of domain and class + half of the documents`.
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

    /// Cells whose columns are called as `name` says.
    pub(super) fn group(&self, statistic: &str, name: impl Fn(u32) -> u32) -> SumGroup {
        SumGroup::of(statistic, -1, rows_of(&self.0, name))
    }

    /// What paths name of the domain (0) or the class (1), given the pairs of these and the tokens of each layer by label, half and first choice.
    ///
    /// `ranks` puts labels in the order of their names, by which equals are told apart. None where a half has no tokens.
    pub(super) fn named(
        &self,
        place: usize,
        pairs: &[[u32; 2]],
        layers: &[Contingency],
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
            for (code, count) in cells {
                counts[(code % 2) as usize][pairs[code as usize / 2][place] as usize] += count;
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

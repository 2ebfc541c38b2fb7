use std::borrow::Cow;
use std::ops::Range;

use moescope_trace::{LayerRouting, SumGroup, TokenTable};

use super::handover::by_stretch;
use super::key_sample::mixed;
use super::{Contingency, CountingPlan, DecisionSums, KeySample, Pairs, RatioSums};
use crate::routing::NEAR_TIE;
use crate::specialisation::position_bucket;

/// Labels whose tables a layer keeps, in the order of [`LayerCounts::by_label`].
pub(super) const LABELS: [&str; 5] = ["domain", "class", "position", "token", "next_token"];

/// Tokens that are counted into one table after the other while their choices are in the cache.
const BLOCK: usize = 4096;

/// Everything that is counted in one routed layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCounts {
    /// Block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts that each token chooses.
    pub per_token: usize,
    /// Tokens that chose both experts.
    pub pairs: Pairs,
    /// Slots by label and expert, for domain, class, position, token and next token.
    pub by_label: [Contingency; 5],
    /// Slots of each expert over slots, by document: `load[expert]`.
    pub load: Vec<RatioSums>,
    /// Experts handed on over those that could be (k for each pair of neighbours), by document.
    pub overlap: RatioSums,
    /// Neighbours with the same first choice over pairs of neighbours, by document.
    pub same_first: RatioSums,
    /// How decided the router was.
    pub decisions: DecisionSums,
    /// How often each set of experts was chosen.
    pub sets: KeySample,
    /// Tokens by first choice, all under label 0.
    pub first_choices: Contingency,
    /// Tokens by first choice here and in the next routed layer; empty in the last.
    pub next_layer: Contingency,
}

/// What a trace's tokens are called in the tables of all traces.
pub(super) struct Names<'a> {
    pub(super) tokens: &'a TokenTable,
    /// Row of each domain of the trace.
    pub(super) domains: &'a [u32],
    /// Row of each class of the trace.
    pub(super) classes: &'a [u32],
    /// Tokens on end of each document.
    pub(super) stretches: &'a [Range<usize>],
    /// Whether the next token of the trace follows each one in its document: `[token]`, 1 or 0.
    pub(super) followed: &'a [u8],
    pub(super) plan: CountingPlan,
}

impl LayerCounts {
    pub(super) fn new(layer: usize, experts: usize, per_token: usize, plan: CountingPlan) -> LayerCounts {
        LayerCounts {
            layer,
            experts,
            per_token,
            pairs: Pairs::new(experts),
            by_label: std::array::from_fn(|_| Contingency::new(experts)),
            load: vec![RatioSums::default(); experts],
            overlap: RatioSums::default(),
            same_first: RatioSums::default(),
            decisions: DecisionSums::default(),
            sets: KeySample::new(plan.sets),
            first_choices: Contingency::new(experts),
            next_layer: Contingency::new(experts),
        }
    }

    /// Counts the tokens of a layer; the keys of their sets and of their first choices, `[token]`, come back. With one expert for each token
    /// both are the same, and the second is left empty.
    pub(super) fn add(&mut self, routing: &LayerRouting, names: &Names<'_>) -> [Vec<u64>; 2] {
        let (tokens, k) = (names.tokens, self.per_token);
        for start in (0..tokens.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(tokens.len());
            let choices = &routing.choices[block.start * k..block.end * k];
            if k > 1 {
                self.pairs.add(choices, k);
            }
            let rows = names.plan.token_rows as u32;
            // A branch that is nearly always taken costs less than a division.
            let bucket = |ids: &'_ [u32], token: usize| match ids[token] {
                id if id < rows => id,
                id => id % rows,
            };
            let [domain, class, position, token, next] = &mut self.by_label;
            domain.add(block.clone().map(|t| names.domains[tokens.domains[t] as usize]), choices, k);
            class.add(block.clone().map(|t| names.classes[tokens.classes[t] as usize]), choices, k);
            position.add(block.clone().map(|t| position_bucket(tokens.positions[t])), choices, k);
            token.add(block.clone().map(|t| bucket(&tokens.ids, t)), choices, k);
            next.add(block.map(|t| bucket(&tokens.next_ids, t)), choices, k);
        }
        self.decisions.add(routing, NEAR_TIE);
        let firsts = first_choices(routing);
        let counts = histogram(&firsts, self.experts);
        self.first_choices.add_row(0, &counts);
        let key_of_first = |expert: u32| mixed(u64::from(expert) + 1);
        if k == 1 {
            self.pairs.add_single(&counts);
            self.add_documents(routing, names, None);
            let keys: Vec<u64> = (0..self.experts as u32).map(key_of_first).collect();
            keys.iter().zip(counts).for_each(|(key, count)| self.sets.add_times(*key, count));
            return [firsts.iter().map(|expert| keys[*expert as usize]).collect(), Vec::new()];
        }
        let masks = masks(routing);
        self.add_documents(routing, names, masks.as_deref());
        let sets: Vec<u64> = match masks {
            Some(masks) => masks.into_iter().map(mixed).collect(),
            None => routing.choices.chunks_exact(k).map(set_key).collect(),
        };
        sets.iter().for_each(|key| self.sets.add(*key));
        [sets, firsts.iter().map(|expert| key_of_first(*expert)).collect()]
    }

    /// Counts how the first choices of a layer lead to those of the next.
    pub(super) fn add_next(&mut self, here: &LayerRouting, next: &LayerRouting) {
        self.next_layer.add(first_choices(here).iter().copied(), &first_choices(next), 1);
    }

    fn add_documents(&mut self, routing: &LayerRouting, names: &Names<'_>, masks: Option<&[u64]>) {
        let k = self.per_token;
        let mut slots = vec![0u32; self.experts];
        for stretch in names.stretches {
            let choices = &routing.choices[stretch.start * k..stretch.end * k];
            choices.iter().for_each(|expert| slots[*expert as usize] += 1);
            for (sums, slots) in self.load.iter_mut().zip(&mut slots) {
                sums.add(u64::from(std::mem::take(slots)), choices.len() as u64);
            }
        }
        for (handover, pairs) in by_stretch(routing, masks, names) {
            self.overlap.add(handover.shared, pairs * k as u64);
            self.same_first.add(handover.same_first, pairs);
        }
    }

    /// Everything that was counted, as integers that add up. Rows of domains and classes are renamed by `names`.
    pub(super) fn groups(&self, names: [&[usize]; 2]) -> Vec<SumGroup> {
        let layer = self.layer as i64;
        let mut groups = vec![SumGroup::of("pairs", layer, self.pairs.cells())];
        for (label, (name, table)) in LABELS.iter().zip(&self.by_label).enumerate() {
            groups.push(SumGroup::of(name, layer, renamed(table, names.get(label).copied())));
        }
        groups.push(SumGroup::of("first_choices", layer, renamed(&self.first_choices, None)));
        groups.push(SumGroup::of("next_layer", layer, renamed(&self.next_layer, None)));
        let ratios = |name: &str, sums: &[RatioSums]| {
            let cells = sums.iter().enumerate().flat_map(|(row, sums)| {
                sums.parts().into_iter().enumerate().map(move |(c, sum)| (row as i64, c as i64, sum as i64))
            });
            SumGroup::of(name, layer, cells.collect::<Vec<_>>())
        };
        groups.push(ratios("load_by_document", &self.load));
        groups.push(ratios("handover_by_document", &[self.overlap, self.same_first]));
        let counts = self.decisions.counts().into_iter().enumerate();
        groups.push(SumGroup::of("decisions", layer, counts.map(|(row, n)| (row as i64, 0, n as i64))));
        for (column, sum) in self.exact_sums().into_iter().enumerate() {
            let limbs = sum.cells().into_iter().enumerate();
            let cells = limbs.map(|(row, limb)| (row as i64, column as i64, limb));
            groups.push(SumGroup::of("exact_sums", layer, cells.collect::<Vec<_>>()));
        }
        groups.push(keys("sets", layer, &self.sets));
        groups
    }

    /// Adds a group of another layer's [`groups`](Self::groups); whether it fits.
    pub(super) fn take(&mut self, group: &SumGroup, names: [&[u32]; 2]) -> bool {
        let label = LABELS.iter().position(|name| *name == group.statistic);
        group.cells().all(|(row, column, sum)| {
            let (Ok(r), Ok(c)) = (usize::try_from(row), usize::try_from(column)) else {
                return group.statistic == "sets" && take_key(&mut self.sets, row, sum);
            };
            match (group.statistic.as_str(), label) {
                (_, Some(label)) => {
                    let row =
                        names.get(label).map_or(Some(r), |names| names.get(r).map(|name| *name as usize));
                    row.is_some_and(|row| self.by_label[label].add_cell(row, c, sum))
                }
                ("pairs", _) => self.pairs.add_cell(r, c, sum),
                ("first_choices", _) => self.first_choices.add_cell(r, c, sum),
                ("next_layer", _) => self.next_layer.add_cell(r, c, sum),
                ("load_by_document", _) => {
                    add_count(self.load.get_mut(r).and_then(|sums| sums.part_mut(c)), sum)
                }
                ("handover_by_document", _) => {
                    let sums = [&mut self.overlap, &mut self.same_first].into_iter().nth(r);
                    add_count(sums.and_then(|sums| sums.part_mut(c)), sum)
                }
                ("decisions", _) => add_count(self.decisions.count_mut(r), sum),
                ("exact_sums", _) => {
                    let decisions = &mut self.decisions;
                    let sums =
                        [&mut decisions.entropy, &mut decisions.effective_choices, &mut decisions.margin];
                    sums.into_iter().nth(c).is_some_and(|exact| exact.add_cell(r, sum))
                }
                ("sets", _) => take_key(&mut self.sets, row, sum),
                _ => false,
            }
        })
    }

    fn exact_sums(&self) -> [&super::ExactSum; 3] {
        [&self.decisions.entropy, &self.decisions.effective_choices, &self.decisions.margin]
    }

    /// Whether the other counts the same layer.
    pub(super) fn is_like(&self, (layer, experts, per_token): (usize, usize, usize)) -> bool {
        (self.layer, self.experts, self.per_token) == (layer, experts, per_token)
    }

    /// Tokens counted.
    pub fn tokens(&self) -> u64 {
        self.pairs.slots().iter().sum::<u64>() / self.per_token as u64
    }
}

/// The sets of up to 64 experts as bits.
fn masks(routing: &LayerRouting) -> Option<Vec<u64>> {
    let mask = |set: &[u32]| set.iter().fold(0u64, |mask, expert| mask | 1 << expert);
    (routing.experts <= 64).then(|| routing.choices.chunks_exact(routing.per_token).map(mask).collect())
}

/// The expert with the largest weight of each token.
fn first_choices(routing: &LayerRouting) -> Cow<'_, [u32]> {
    match routing.per_token {
        1 => Cow::Borrowed(&routing.choices),
        k => Cow::Owned(routing.choices.iter().step_by(k).copied().collect()),
    }
}

/// How often each expert is among the choices. Several counts side by side, since an addition to a number waits for the one before to it.
fn histogram(choices: &[u32], experts: usize) -> Vec<u32> {
    const SIDE_BY_SIDE: usize = 4;
    let mut counts = vec![[0u32; SIDE_BY_SIDE]; experts];
    for some in choices.chunks(SIDE_BY_SIDE) {
        some.iter().enumerate().for_each(|(side, expert)| counts[*expert as usize][side] += 1);
    }
    counts.into_iter().map(|sides| sides.iter().sum()).collect()
}

/// Key of a set of experts, whatever their order, where there are too many for a mask.
fn set_key(set: &[u32]) -> u64 {
    mixed(set.iter().fold(0u64, |sum, expert| sum.wrapping_add(mixed(u64::from(*expert) + 1))))
}

/// Label, code and count of each cell in the order of the labels, which may have other names.
fn renamed(table: &Contingency, names: Option<&[usize]>) -> Vec<(i64, i64, i64)> {
    let name = |row: usize| names.map_or(row, |names| names[row]) as i64;
    let cells = table.cells().map(|(row, column, count)| (name(row), column as i64, i64::from(count)));
    let mut cells: Vec<(i64, i64, i64)> = cells.collect();
    cells.sort_unstable();
    cells
}

/// The kept keys as rows.
pub(super) fn keys(name: &str, layer: i64, sample: &KeySample) -> SumGroup {
    let cells = sample.sorted().into_iter().map(|(key, times)| (key.cast_signed(), 0, i64::from(times)));
    SumGroup::of(name, layer, cells)
}

pub(super) fn take_key(sample: &mut KeySample, row: i64, sum: i64) -> bool {
    u32::try_from(sum).map(|times| sample.add_times(row.cast_unsigned(), times)).is_ok()
}

fn add_count(count: Option<&mut u64>, sum: i64) -> bool {
    let Some(count) = count else { return false };
    match count.checked_add_signed(sum) {
        Some(all) => *count = all,
        None => return false,
    }
    true
}

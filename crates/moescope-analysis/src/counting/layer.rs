use std::borrow::Cow;

use moescope_trace::{LayerRouting, SumGroup};

use super::documents::half;
use super::handover::by_stretch;
use super::key_sample::mixed;
use super::names::Names;
use super::sampled_keys::Rows;
use super::{
    CellSample, Contingency, CountingPlan, DecisionSums, KeySample, Masses, Pairs, RatioSums, TokenCounts,
    recency,
};
use crate::routing::NEAR_TIE;

/// Labels of which choices may tell something.
pub(super) const LABELS: [&str; 5] = ["domain", "class", "position", "token", "next_token"];

/// Statistics that are tables of their own, in the order of [`LayerCounts::own_tables`].
const TABLES: [&str; 4] = ["position", "next_token", "first_choices", "next_layer"];

/// Buckets of positions of 32 bits.
const MOST_BUCKETS: usize = 33;

/// Statistics by domain, class and half of the documents: of all slots, and of first choices.
pub(super) const BY_LABELS: [&str; 2] = ["labels", "labels_of_first_choices"];

/// Tokens that are counted into one table after the other while their choices are in the cache.
const BLOCK: usize = 4096;

/// Everything that is counted in one routed layer.
#[derive(Clone, Debug)]
pub struct LayerCounts {
    /// Block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts that each token chooses.
    pub per_token: usize,
    /// Tokens that chose both experts.
    pub pairs: Pairs,
    /// Slots by `2 · pair of domain and class + half of the documents` and expert, and the same of first choices alone. With one choice for each
    /// token the two are the same, and the first is left empty.
    pub(super) by_labels: [Contingency; 2],
    /// Slots by `2 · bucket of positions + half of the documents` and expert.
    pub position: Contingency,
    /// Slots by token id and expert.
    pub tokens: TokenCounts,
    /// Slots by id of the next token and expert.
    pub next_token: Contingency,
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
    /// Routed weight by domain.
    pub masses: Masses,
    /// Slots of sampled bigrams: `[bigram, 2 · expert + half of the documents]`.
    pub(super) bigrams: Rows,
    /// Stack distances of sampled documents: `[document, 2 · distance + shuffled]`.
    pub(super) distances: Rows,
}

impl LayerCounts {
    pub(super) fn new(layer: usize, experts: usize, per_token: usize, plan: CountingPlan) -> LayerCounts {
        LayerCounts {
            layer,
            experts,
            per_token,
            pairs: Pairs::new(experts),
            by_labels: [Contingency::new(experts), Contingency::new(experts)],
            position: Contingency::new(experts),
            tokens: TokenCounts::new(experts, plan.low_rows, plan.token_rows),
            next_token: Contingency::new(experts),
            load: vec![RatioSums::default(); experts],
            overlap: RatioSums::default(),
            same_first: RatioSums::default(),
            decisions: DecisionSums::default(),
            sets: KeySample::new(plan.sets),
            first_choices: Contingency::new(experts),
            next_layer: Contingency::new(experts),
            masses: Masses::new(experts),
            bigrams: Rows::new(2 * experts),
            distances: Rows::new(2 * (experts + 1)),
        }
    }

    /// Counts the tokens of a layer; the keys of their sets and of their first choices, `[token]`, come back. With one expert for each token
    /// both are the same, and the second is left empty.
    pub(super) fn add(&mut self, routing: &LayerRouting, names: &Names<'_>) -> [Vec<u64>; 2] {
        let k = self.per_token;
        for start in (0..names.tokens.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(names.tokens.len());
            let choices = &routing.choices[block.start * k..block.end * k];
            // Of single choices the table of first choices tells the same.
            if k > 1 {
                self.pairs.add(choices, k);
                self.by_labels[0].add(names.marks[block.clone()].iter().copied(), choices, k);
            }
            self.position.add(names.positions[block.clone()].iter().copied(), choices, k);
            self.next_token.add(names.next_rows[block.clone()].iter().copied(), choices, k);
            self.tokens.table.add(names.rows[block].iter().copied(), choices, k);
        }
        for (token, slot) in &names.sampled_bigrams {
            let (row, half) = (self.bigrams.row_mut(*slot), names.marks[*token] & 1);
            routing.chosen(*token).iter().for_each(|expert| row[(2 * expert + half) as usize] += 1);
        }
        recency::count(&mut self.distances, routing, names);
        self.decisions.add(routing, NEAR_TIE);
        let firsts = first_choices(routing);
        let counts = histogram(&firsts, self.experts);
        self.first_choices.add_row(0, &counts);
        self.by_labels[1].add(names.marks.iter().copied(), &firsts, 1);
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
        let (mut slots, mut weights) = (vec![0u32; self.experts], vec![0f64; self.experts]);
        for ((stretch, key), domain) in names.documents.each().zip(&names.domains) {
            let range = stretch.start * k..stretch.end * k;
            let choices = &routing.choices[range.clone()];
            for (expert, weight) in choices.iter().zip(&routing.weights[range]) {
                slots[*expert as usize] += 1;
                weights[*expert as usize] += f64::from(*weight);
            }
            self.masses.add(*domain, half(key), &weights);
            weights.fill(0.0);
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
        for (name, table) in TABLES.iter().zip(self.own_tables()) {
            groups.push(SumGroup::of(name, layer, renamed(table, |row| row)));
        }
        groups.extend(self.tokens.groups(layer, names[0]));
        groups.push(self.masses.group(layer, names[0]));
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
    pub(super) fn take(&mut self, group: &SumGroup, names: [&[u32]; 2], token_rows: usize) -> bool {
        let statistic = group.statistic.as_str();
        let place = TABLES.iter().position(|name| *name == statistic);
        group.cells().all(|(row, column, sum)| {
            let (Ok(r), Ok(c)) = (usize::try_from(row), usize::try_from(column)) else {
                return statistic == "sets" && take_key(&mut self.sets, row, sum);
            };
            let own = (self.tokens.take(statistic, names[0], (r, c), sum))
                .or_else(|| self.masses.take(statistic, names[0], (r, c), sum));
            if let Some(fits) = own {
                return fits;
            }
            if let Some(place) = place {
                let rows = [2 * MOST_BUCKETS, token_rows, 1, self.experts][place];
                return r < rows && self.own_tables_mut()[place].add_cell(r, c, sum);
            }
            match statistic {
                "pairs" => self.pairs.add_cell(r, c, sum),
                "load_by_document" => add_count(self.load.get_mut(r).and_then(|sums| sums.part_mut(c)), sum),
                "handover_by_document" => {
                    let sums = [&mut self.overlap, &mut self.same_first].into_iter().nth(r);
                    add_count(sums.and_then(|sums| sums.part_mut(c)), sum)
                }
                "decisions" => c == 0 && add_count(self.decisions.count_mut(r), sum),
                "exact_sums" => {
                    let decisions = &mut self.decisions;
                    let sums =
                        [&mut decisions.entropy, &mut decisions.effective_choices, &mut decisions.margin];
                    sums.into_iter().nth(c).is_some_and(|exact| exact.add_cell(r, sum))
                }
                "sets" => take_key(&mut self.sets, row, sum),
                _ => false,
            }
        })
    }

    /// Rows of sampled bigrams and documents.
    pub(super) fn sampled_rows(&mut self) -> [&mut Rows; 2] {
        [&mut self.bigrams, &mut self.distances]
    }

    /// Tables of their own, in the order of [`TABLES`].
    fn own_tables(&self) -> [&Contingency; 4] {
        [&self.position, &self.next_token, &self.first_choices, &self.next_layer]
    }

    fn own_tables_mut(&mut self) -> [&mut Contingency; 4] {
        [&mut self.position, &mut self.next_token, &mut self.first_choices, &mut self.next_layer]
    }

    /// Slots by a label of [`LABELS`] and expert; `pairs` are those of domain and class.
    pub(super) fn by_label(&self, place: usize, pairs: &[[u32; 2]]) -> Cow<'_, Contingency> {
        let both_halves = |table: &Contingency| {
            let [mut first, second] = table.parted();
            first.merge(&second);
            Cow::Owned(first)
        };
        match place {
            0 | 1 => {
                let table = &self.by_labels[usize::from(self.per_token == 1)];
                both_halves(&of_one_label(table, pairs, place))
            }
            2 => both_halves(&self.position),
            3 => Cow::Owned(self.tokens.all()),
            _ => Cow::Borrowed(&self.next_token),
        }
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

/// The rows by `2 · pair + half` as those by `2 · label + half` of domain (0) or class (1).
pub(super) fn of_one_label(table: &Contingency, pairs: &[[u32; 2]], place: usize) -> Contingency {
    let mut sum = Contingency::new(table.codes());
    for (row, code, count) in table.cells() {
        let label = 2 * pairs[row / 2][place] as usize + row % 2;
        sum.add_cell(label, code, i64::from(count));
    }
    sum
}

/// Label, code and count of each cell in the order of the labels, which may have other names.
pub(super) fn renamed(table: &Contingency, name: impl Fn(usize) -> usize) -> Vec<(i64, i64, i64)> {
    let cell =
        |(row, column, count): (usize, usize, u32)| (name(row) as i64, column as i64, i64::from(count));
    let mut cells: Vec<(i64, i64, i64)> = table.cells().map(cell).collect();
    cells.sort_unstable();
    cells
}

/// Key, code and count of each cell of the kept rows, codes by other names.
pub(super) fn rows_of(sample: &CellSample, name: impl Fn(u32) -> u32) -> Vec<(i64, i64, i64)> {
    let mut cells = Vec::new();
    for (key, row) in sample.sorted() {
        cells.extend(row.iter().map(|cell| (key.cast_signed(), i64::from(name(cell.0)), i64::from(cell.1))));
    }
    cells.sort_unstable();
    cells
}

/// Adds a cell of [`rows_of`]; whether its numbers are such.
pub(super) fn add_key_cell(sample: &mut CellSample, row: i64, column: i64, sum: i64) -> bool {
    match (u32::try_from(column), u32::try_from(sum)) {
        (Ok(code), Ok(times)) => {
            sample.add(row.cast_unsigned(), code, times);
            true
        }
        _ => false,
    }
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

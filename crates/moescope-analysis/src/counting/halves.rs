//! What routes of one half of the documents foretell of those of the other.

use moescope_trace::SumGroup;

use super::key_sample::{mixed, unmixed};
use super::layer::{Names, add_key_cell, renamed, rows_of};
use super::{CellSample, Contingency, SampledRatio};
use crate::specialisation::position_bucket;

/// Counts of one layer that are kept apart by the half of the documents.
///
/// Tables of all documents lie elsewhere; the first half is what they have beyond the second one.
#[derive(Clone, Debug, PartialEq)]
pub struct Halves {
    /// Slots by token id and expert, of the second half.
    token: Contingency,
    /// Slots by bucket of positions and expert, of the second half.
    position: Contingency,
    /// Slots by token and the one before it: rows of `2 · expert + half`.
    pub(super) bigrams: CellSample,
}

/// How well the most frequent experts of a case in one half of the documents are those of the same case in the other, both ways.
///
/// - **Unit and range:** share of routed slots, from 0 to 1.
/// - **Null:** the most used experts of the layer in the other half, whatever the case; nothing to find leaves the two equal on average.
/// - **Does not show:** that the router looks at the case and not at what goes with it. Documents are not drawn anew, so there is no interval:
///   `between_halves` tells how far the two directions differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foretold {
    /// What is known: `position`, `token` or `token and the one before`.
    pub predictor: &'static str,
    /// Share of the slots that are foretold.
    pub overlap: f64,
    /// The same by the load alone.
    pub load: f64,
    /// Standard error of keeping some bigrams only; 0 for the others.
    pub error: f64,
    /// Share on the second half less share on the first.
    pub between_halves: f64,
    /// Share of the slots whose case occurs in the other half.
    pub seen: f64,
}

const STATISTICS: [&str; 3] = ["token_of_second_half", "position_of_second_half", "bigrams"];

impl Halves {
    pub(super) fn new(experts: usize, cells: usize) -> Halves {
        let table = || Contingency::new(experts);
        Halves { token: table(), position: table(), bigrams: CellSample::new(cells) }
    }

    /// Counts a block of tokens, with their choices.
    pub(super) fn add(
        &mut self,
        block: std::ops::Range<usize>,
        choices: &[u32],
        per_token: usize,
        names: &Names<'_>,
    ) {
        for (token, set) in block.zip(choices.chunks_exact(per_token)) {
            let half = names.halves[token];
            if half == 1 {
                self.token.add_one(names.token_row(names.tokens.ids[token]), set);
                self.position.add_one(position_bucket(names.tokens.positions[token]), set);
            }
            let key = names.bigrams[token];
            if self.bigrams.keeps(key) {
                set.iter().for_each(|expert| self.bigrams.add(key, 2 * expert + u32::from(half), 1));
            }
        }
    }

    pub(super) fn groups(&self, layer: i64) -> [SumGroup; 3] {
        [
            SumGroup::of(STATISTICS[0], layer, renamed(&self.token, |row| row)),
            SumGroup::of(STATISTICS[1], layer, renamed(&self.position, |row| row)),
            SumGroup::of(STATISTICS[2], layer, rows_of(&self.bigrams, |code| code)),
        ]
    }

    /// Adds a cell of [`groups`](Self::groups); none where the statistic is another, else whether it fits.
    pub(super) fn take(&mut self, statistic: &str, row: i64, column: i64, sum: i64) -> Option<bool> {
        let place = STATISTICS.iter().position(|own| *own == statistic)?;
        let table = match place {
            0 => &mut self.token,
            1 => &mut self.position,
            _ => {
                let fits = u32::try_from(column).is_ok_and(|code| code < 2 * self.token.codes() as u32);
                return Some(fits && add_key_cell(&mut self.bigrams, row, column, sum));
            }
        };
        let (Ok(row), Ok(column)) = (usize::try_from(row), usize::try_from(column)) else {
            return Some(false);
        };
        Some(table.add_cell(row, column, sum))
    }

    /// What each predictor foretells, given the tables of all documents by token and by position.
    ///
    /// `token_row` is the row of a token id in its table. None where a half has no documents.
    pub fn foretold(
        &self,
        token: &Contingency,
        position: &Contingency,
        per_token: usize,
        token_row: impl Fn(u32) -> usize,
    ) -> Option<[Foretold; 3]> {
        let load = by_half(position, &self.position, None);
        if load.iter().any(|half| half.iter().all(|count| *count == 0)) {
            return None;
        }
        let by_load = Judge { per_token, weaker: load.each_ref().map(|half| best(half, per_token)) };
        let alone = Judged::of(&load, by_load.weaker.each_ref().map(Vec::as_slice));
        let rows = |all: &Contingency, second: &Contingency| {
            let mut sums = Judged::default();
            for row in 0..all.labels() {
                sums.add(by_load.row(&by_half(all, second, Some(row))));
            }
            sums
        };
        let [by_position, by_token] = [rows(position, &self.position), rows(token, &self.token)];
        let [gain, seen] = self.beyond_token(token, &by_load, token_row);
        let of = |predictor, judged: Judged| Foretold {
            predictor,
            overlap: judged.overlap(),
            load: alone.overlap(),
            error: 0.0,
            between_halves: judged.between_halves(),
            seen: judged.seen(),
        };
        let bigram = Foretold {
            predictor: "token and the one before",
            overlap: by_token.overlap() + gain.ratio,
            error: gain.error,
            seen: seen.ratio,
            ..of("", by_token)
        };
        Some([of("position", by_position), of("token", by_token), bigram])
    }

    /// What kept bigrams foretell beyond their token alone, and the share of their slots that the other half has: ratios over slots.
    ///
    /// The difference varies less from bigram to bigram than either share, so that it is known better.
    fn beyond_token(
        &self,
        token: &Contingency,
        by_load: &Judge,
        token_row: impl Fn(u32) -> usize,
    ) -> [SampledRatio; 2] {
        let experts = self.token.codes();
        let (mut gains, mut seen) = (Vec::new(), Vec::new());
        for (key, cells) in self.bigrams.sorted() {
            let mut own = [vec![0u32; experts], vec![0u32; experts]];
            for (code, count) in cells {
                own[(code & 1) as usize][(code / 2) as usize] += count;
            }
            let row = token_row(unmixed(key) as u32);
            let token = by_half(token, &self.token, Some(row));
            let weaker = [0, 1].map(|half| by_load.guess(&token[half], half));
            let bigram = Judge { per_token: by_load.per_token, weaker: weaker.clone() }.row(&own);
            let alone = Judged::of(&own, weaker.each_ref().map(Vec::as_slice));
            let slots = bigram.slots() as f64;
            gains.push((bigram.hits() as f64 - alone.hits() as f64, slots));
            seen.push((bigram.seen() * slots, slots));
        }
        [&gains, &seen].map(|rows| CellSample::ratio(rows, self.bigrams.kept()))
    }
}

/// Key of a token after another one, or of a token that none precedes.
pub(super) fn bigram_key(before: Option<u32>, id: u32) -> u64 {
    mixed(before.map_or(0, |before| (u64::from(before) + 1) << 32) | u64::from(id))
}

/// Counts of a row, or of all rows, in the first half and in the second: `[half][expert]`.
fn by_half(all: &Contingency, second: &Contingency, row: Option<usize>) -> [Vec<u32>; 2] {
    let sum = |table: &Contingency, expert: usize| match row {
        Some(row) => table.count(row, expert),
        None => (0..table.labels()).map(|row| table.count(row, expert)).sum(),
    };
    let later: Vec<u32> = (0..all.codes()).map(|expert| sum(second, expert)).collect();
    let earlier = later.iter().enumerate().map(|(expert, later)| sum(all, expert) - later).collect();
    [earlier, later]
}

/// The experts with the largest counts; of equals, those with the lower number.
fn best(counts: &[u32], per_token: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|expert| std::cmp::Reverse(counts[*expert]));
    order.truncate(per_token);
    order
}

/// Guesses as many experts as a token chooses.
struct Judge {
    per_token: usize,
    /// What is guessed where a half has not seen the case: `[half][place]`.
    weaker: [Vec<usize>; 2],
}

impl Judge {
    /// The guess of one half from its counts of the case.
    fn guess(&self, counts: &[u32], half: usize) -> Vec<usize> {
        match counts.iter().any(|count| *count > 0) {
            true => best(counts, self.per_token),
            false => self.weaker[half].clone(),
        }
    }

    /// Each half judged by the guess of the other.
    fn row(&self, counts: &[Vec<u32>; 2]) -> Judged {
        let guesses = [0, 1].map(|half| self.guess(&counts[half], half));
        Judged::of(counts, guesses.each_ref().map(Vec::as_slice))
    }
}

/// Slots that were foretold, all of them, and those whose case the other half has: `[half that is judged]`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    hits: [u64; 2],
    slots: [u64; 2],
    seen: [u64; 2],
}

impl Judged {
    /// Counts of one case in both halves, each judged by what the other guesses.
    pub(super) fn of(counts: &[Vec<u32>; 2], guesses: [&[usize]; 2]) -> Judged {
        let slots = counts.each_ref().map(|half| half.iter().map(|count| u64::from(*count)).sum());
        let hits = [0, 1]
            .map(|half| guesses[1 - half].iter().map(|code| u64::from(counts[half][*code])).sum::<u64>());
        let seen = [0, 1].map(|half| if slots[1 - half] > 0 { slots[half] } else { 0 });
        Judged { hits, slots, seen }
    }

    pub(super) fn add(&mut self, other: Judged) {
        for half in 0..2 {
            self.hits[half] += other.hits[half];
            self.slots[half] += other.slots[half];
            self.seen[half] += other.seen[half];
        }
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.iter().sum()
    }

    pub(super) fn slots(&self) -> u64 {
        self.slots.iter().sum()
    }

    pub(super) fn overlap(&self) -> f64 {
        self.hits() as f64 / self.slots() as f64
    }

    pub(super) fn seen(&self) -> f64 {
        self.seen.iter().sum::<u64>() as f64 / self.slots() as f64
    }

    fn between_halves(&self) -> f64 {
        let [first, second] = [0, 1].map(|half| self.hits[half] as f64 / self.slots[half] as f64);
        second - first
    }
}

//! What routes of one half of the documents foretell of those of the other.
//!
//! Counts of a case and of the routes that it took make a table of guesses. Judged on the text that made it,
//! such a table is always too good: a case that was seen once foretells itself. So each half of the documents
//! is judged by the guesses of the other, and what is found would be found on new text as well.
//!
//! Position and token have a row for each case, or share rows by a remainder. Of pairs of tokens there are too
//! many; an even sample of them is kept, and what these tell beyond their token alone is added to what the
//! token tells of all text. An example: the token foretells 0.80 of all slots, the kept pairs 0.85 of theirs
//! and their tokens alone 0.82 of the same; then pairs foretell about 0.83 of all.

use super::key_sample::{mixed, unmixed};
use super::sampled_keys::{Rows, SampledKeys};
use super::{CellSample, Contingency, SampledRatio};

/// How well the most frequent experts of a case in one half of the documents are those of the same case in the other, both ways.
///
/// - **Unit and range:** share of routed slots, from 0 to 1.
/// - **Null:** the most used experts of the layer in the other half, whatever the case. With nothing to find frequent cases are foretold as well, and rare
///   ones less well: a case that was met once guesses what it did that time.
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

/// Counts of one layer in each half of the documents.
pub(super) struct Halves<'a> {
    /// Slots by row of the token id and expert.
    pub(super) token: [Contingency; 2],
    /// Slots by bucket of positions and expert.
    pub(super) position: [Contingency; 2],
    /// Bigrams that are kept, and the slots of each: `[2 · expert + half]`.
    pub(super) bigrams: (&'a SampledKeys, &'a Rows),
}

impl Halves<'_> {
    /// What each predictor foretells; `token_row` is the row of a token id. None where a half has no documents.
    pub(super) fn foretold(
        &self,
        per_token: usize,
        token_row: impl Fn(u32) -> usize,
    ) -> Option<[Foretold; 3]> {
        let load = self.position.each_ref().map(|half| {
            let sum = |expert| (0..half.labels()).map(|row| half.count(row, expert)).sum();
            (0..half.codes()).map(sum).collect::<Vec<u32>>()
        });
        if load.iter().any(|half| half.iter().all(|count| *count == 0)) {
            return None;
        }
        let by_load = Judge { per_token, weaker: load.each_ref().map(|half| best(half, per_token)) };
        let alone = Judged::of(&load, by_load.weaker.each_ref().map(Vec::as_slice));
        let rows = |halves: &[Contingency; 2]| {
            let mut sums = Judged::default();
            for row in 0..halves.iter().map(Contingency::labels).max().unwrap_or(0) {
                sums.add(by_load.row(&counts_of(halves, row)));
            }
            sums
        };
        let [by_position, by_token] = [&self.position, &self.token].map(rows);
        let Beyond { gain, seen, between_halves } = self.beyond_token(&by_load, token_row);
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
            between_halves: by_token.between_halves() + between_halves,
            seen: seen.ratio,
            ..of("", by_token)
        };
        Some([of("position", by_position), of("token", by_token), bigram])
    }

    /// What kept bigrams foretell beyond their token alone.
    ///
    /// The difference varies less from bigram to bigram than either share, so that it is known better.
    fn beyond_token(&self, by_load: &Judge, token_row: impl Fn(u32) -> usize) -> Beyond {
        let (keys, bigrams) = self.bigrams;
        let (mut gains, mut seen) = (Vec::new(), Vec::new());
        let mut sums = [Judged::default(), Judged::default()];
        for (key, slot) in keys.sorted() {
            let own = [0, 1].map(|half| bigrams.row(slot).iter().skip(half).step_by(2).copied().collect());
            let token = counts_of(&self.token, token_row(unmixed(key) as u32));
            let weaker = [0, 1].map(|half| by_load.guess(&token[half], half));
            let bigram = Judge { per_token: by_load.per_token, weaker: weaker.clone() }.row(&own);
            let alone = Judged::of(&own, weaker.each_ref().map(Vec::as_slice));
            sums[0].add(bigram);
            sums[1].add(alone);
            let slots = bigram.slots() as f64;
            gains.push((bigram.hits() as f64 - alone.hits() as f64, slots));
            seen.push((bigram.seen() * slots, slots));
        }
        let [gain, seen] = [&gains, &seen].map(|rows| CellSample::ratio(rows, keys.kept()));
        Beyond { gain, seen, between_halves: sums[0].between_halves() - sums[1].between_halves() }
    }
}

/// What kept bigrams foretell beyond their token, in shares of their slots.
struct Beyond {
    /// Foretold beyond what the token foretells.
    gain: SampledRatio,
    /// Slots whose bigram the other half has.
    seen: SampledRatio,
    /// Gain on the second half less gain on the first.
    between_halves: f64,
}

/// Key of a token after another one, or of a token that none precedes.
pub(super) fn bigram_key(before: Option<u32>, id: u32) -> u64 {
    // Not 0 with none before and id 0: its hash is 0, which every sample keeps.
    mixed(before.map_or(u64::from(u32::MAX) << 32, |before| u64::from(before) << 32) | u64::from(id))
}

/// Counts of a row by expert, in each half.
fn counts_of(halves: &[Contingency; 2], row: usize) -> [Vec<u32>; 2] {
    halves.each_ref().map(|half| (0..half.codes()).map(|expert| half.count(row, expert)).collect())
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
    /// The guess of one half from its counts of the case: what was most frequent there, or what a weaker
    /// predictor says where the half has never seen it.
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
///
/// Integers, so that cases add up in any order. Shares are taken of both halves together: a half with more
/// documents counts for more.
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

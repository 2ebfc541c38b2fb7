//! Learning BPE merges, with ties broken by the pair itself.
//!
//! The trainer of the `tokenizers` crate keeps its candidates in hash maps with random keys, and can
//! hold two candidates for one pair, of which either may be merged first. Equal texts should give
//! equal tokenizers, so the merges are learned here; the crate does all the rest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

/// A pair of neighbouring pieces.
type Pair = (u32, u32);

/// What was learned: the pieces, and the pairs that make them.
pub(super) struct Merges {
    /// The bytes of each piece; the first 256 are the single bytes.
    pub(super) pieces: Vec<Vec<u8>>,
    /// The pairs merged, in order. Two pairs may make the same piece (`ab`+`c`, `a`+`bc`).
    pub(super) pairs: Vec<Pair>,
}

/// Learns up to `count` new pieces from words, each a list of bytes with its frequency.
///
/// At each step the most frequent pair is merged, of equally frequent ones the one with the smaller
/// ids; a pair seen once is not merged.
pub(super) fn learn(words: &BTreeMap<Vec<u8>, u64>, count: usize) -> Merges {
    let mut state = State::new(words);
    let mut heap: BinaryHeap<(u64, Reverse<Pair>)> =
        state.frequency.iter().map(|(&pair, &frequency)| (frequency, Reverse(pair))).collect();
    let mut learned = Learned::bytes();
    while learned.merges.pieces.len() < 256 + count {
        let Some((frequency, Reverse(pair))) = heap.pop() else { break };
        if state.frequency.get(&pair) != Some(&frequency) {
            continue; // Its frequency has changed since; the newer entry is in the heap too.
        }
        if frequency < 2 {
            break;
        }
        for changed in state.merge(pair, learned.piece_of(pair)) {
            if let Some(&frequency) = state.frequency.get(&changed) {
                heap.push((frequency, Reverse(changed)));
            }
        }
    }
    learned.merges
}

/// Pieces and pairs so far, and the id that stands for given bytes.
struct Learned {
    merges: Merges,
    ids: BTreeMap<Vec<u8>, u32>,
    known: BTreeSet<Pair>,
}

impl Learned {
    fn bytes() -> Self {
        let pieces: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        let ids = pieces.iter().cloned().zip(0..).collect();
        Self { merges: Merges { pieces, pairs: Vec::new() }, ids, known: BTreeSet::new() }
    }

    /// The id of the piece that a pair makes, new or known; notes the pair at its first use.
    fn piece_of(&mut self, pair: Pair) -> u32 {
        if self.known.insert(pair) {
            self.merges.pairs.push(pair);
        }
        let pieces = &mut self.merges.pieces;
        let bytes = [pieces[pair.0 as usize].as_slice(), pieces[pair.1 as usize].as_slice()].concat();
        let next = pieces.len() as u32;
        *self.ids.entry(bytes.clone()).or_insert_with(|| {
            pieces.push(bytes);
            next
        })
    }
}

/// Words as pieces, with the frequency and the places of every pair.
///
/// The hash maps are only ever asked by key, or poured into a heap with a total order.
struct State {
    words: Vec<(Vec<u32>, u64)>,
    frequency: HashMap<Pair, u64>,
    places: HashMap<Pair, BTreeSet<usize>>,
}

impl State {
    fn new(words: &BTreeMap<Vec<u8>, u64>) -> Self {
        let words: Vec<(Vec<u32>, u64)> = words
            .iter()
            .map(|(word, &times)| (word.iter().map(|&byte| u32::from(byte)).collect(), times))
            .collect();
        let mut state = Self { words, frequency: HashMap::new(), places: HashMap::new() };
        for index in 0..state.words.len() {
            state.add(index, &mut BTreeSet::new());
        }
        state
    }

    /// Merges a pair wherever it stands, and returns the pairs whose frequency changed.
    fn merge(&mut self, pair: Pair, made: u32) -> BTreeSet<Pair> {
        let mut changed = BTreeSet::new();
        for index in self.places.remove(&pair).unwrap_or_default() {
            self.take_away(index, &mut changed);
            let pieces = &mut self.words[index].0;
            *pieces = merged(pieces, pair, made);
            self.add(index, &mut changed);
        }
        changed
    }

    fn add(&mut self, index: usize, changed: &mut BTreeSet<Pair>) {
        let (pieces, times) = &self.words[index];
        for pair in pairs(pieces) {
            *self.frequency.entry(pair).or_default() += times;
            self.places.entry(pair).or_default().insert(index);
            changed.insert(pair);
        }
    }

    fn take_away(&mut self, index: usize, changed: &mut BTreeSet<Pair>) {
        let (pieces, times) = &self.words[index];
        for pair in pairs(pieces) {
            let left = self.frequency.get_mut(&pair).expect("every pair of every word is counted");
            *left -= times;
            if *left == 0 {
                self.frequency.remove(&pair);
            }
            if let Some(places) = self.places.get_mut(&pair) {
                places.remove(&index);
            }
            changed.insert(pair);
        }
    }
}

fn pairs(pieces: &[u32]) -> impl Iterator<Item = Pair> {
    pieces.windows(2).map(|pair| (pair[0], pair[1]))
}

fn merged(pieces: &[u32], pair: Pair, made: u32) -> Vec<u32> {
    let mut result = Vec::with_capacity(pieces.len());
    let mut at = 0;
    while at < pieces.len() {
        let here = at + 1 < pieces.len() && (pieces[at], pieces[at + 1]) == pair;
        result.push(if here { made } else { pieces[at] });
        at += if here { 2 } else { 1 };
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[(&str, u64)]) -> BTreeMap<Vec<u8>, u64> {
        list.iter().map(|(word, times)| (word.as_bytes().to_vec(), *times)).collect()
    }

    #[test]
    fn the_worked_example_of_sennrich() {
        // low 5, lower 2, newest 6, widest 3: e+s (9), es+t (9), then l+o (7), lo+w (7), then n+e (6) …
        let list = words(&[("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]);
        let learned = learn(&list, 4).pairs;
        let pair = |a: u8, b: u8| (u32::from(a), u32::from(b));
        assert_eq!(learned[0], pair(b'e', b's'));
        assert_eq!(learned[1], (256, u32::from(b't')));
        assert_eq!(learned[2], pair(b'l', b'o'));
        assert_eq!(learned[3], (258, u32::from(b'w')));
    }

    #[test]
    fn ties_go_to_the_smaller_pair_and_single_pairs_are_left() {
        let learned = learn(&words(&[("cd", 2), ("ab", 2), ("ef", 1)]), 10).pairs;
        assert_eq!(learned, [(97, 98), (99, 100)]);
    }

    #[test]
    fn overlapping_pairs_merge_from_the_left() {
        assert_eq!(merged(&[1, 1, 1], (1, 1), 9), [9, 1]);
        let learned = learn(&words(&[("aaaa", 3)]), 2).pairs;
        assert_eq!(learned, [(97, 97), (256, 256)]);
    }

    #[test]
    fn a_piece_made_in_two_ways_has_one_id() {
        // `bc` is merged first; in `abd` there is no `bc`, so `ab` is merged there, then `ab`+`c` never is.
        // `xabc` needs `a`+`bc`; `abc` after `ab` needs `ab`+`c`: both make `abc`.
        let list = words(&[("abc", 5), ("bc", 9), ("ab", 30), ("zbc", 20)]);
        let learned = learn(&list, 40);
        let different: BTreeSet<&Vec<u8>> = learned.pieces.iter().collect();
        assert_eq!(different.len(), learned.pieces.len());
    }
}

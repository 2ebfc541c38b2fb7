//! What a lens is told of each token beside its vector.
//!
//! A path of all blocks so far would be one of its own for almost every token, and tell the lens which token it is. Two blocks are the shortest path, and
//! what the second adds to the first can be asked with the first held.

use std::collections::BTreeMap;

use moescope_base::Seed;
use rand::seq::SliceRandom;

/// Pairs of experts that have a correction of their own, at most; all others share one.
const PATHS: usize = 64;

/// What a lens is told; one entry for each token of the text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told<'a> {
    /// The expert with the largest weight in the block.
    Expert {
        /// Of each token.
        own: &'a [u32],
        /// Experts of the block.
        experts: usize,
    },
    /// The path so far: that expert, and the one with the largest weight in the routed block before.
    Path {
        /// Of each token, in the block before.
        before: &'a [u32],
        /// Of each token, in the block.
        own: &'a [u32],
    },
}

impl Told<'_> {
    /// Number of classes.
    pub(super) fn classes(&self, training: &[usize]) -> usize {
        match self {
            Told::Expert { experts, .. } => *experts,
            Told::Path { before, own } => frequent(before, own, training).len() + 1,
        }
    }

    /// Class of each token of each part. With a seed, what is asked about is shuffled within each part: the expert between all tokens, or
    /// the expert before between the tokens of one expert, so that what this one tells is kept, and every pair as often as it was.
    pub(super) fn of_parts(&self, parts: &[Vec<usize>; 3], shuffle: Option<Seed>) -> [Vec<u32>; 3] {
        let shuffle = |part: usize| shuffle.map(|seed| seed.index(part as u64));
        match self {
            Told::Expert { own, .. } => [0, 1, 2].map(|part| {
                let mut classes: Vec<u32> = parts[part].iter().map(|token| own[*token]).collect();
                if let Some(seed) = shuffle(part) {
                    classes.shuffle(&mut seed.rng());
                }
                classes
            }),
            Told::Path { before, own } => {
                let place = frequent(before, own, &parts[0]);
                let others = place.len() as u32;
                [0, 1, 2].map(|part| {
                    let before = match shuffle(part) {
                        Some(seed) => exchanged(before, own, &parts[part], seed),
                        None => parts[part].iter().map(|token| before[*token]).collect(),
                    };
                    let pairs = before.into_iter().zip(parts[part].iter().map(|token| own[*token]));
                    pairs.map(|pair| place.get(&pair).copied().unwrap_or(others)).collect()
                })
            }
        }
    }
}

/// The most frequent pairs of the training tokens, numbered from 0 by use; of equals that with the lower experts first.
///
/// A correction has to be learned from the tokens that it is for. With 64 experts in each of two blocks there are 4,096 pairs, of which most have no
/// token at all in a few thousand; these share one correction, so that the lens is never told more than it can learn.
fn frequent(before: &[u32], own: &[u32], training: &[usize]) -> BTreeMap<(u32, u32), u32> {
    let mut counts = BTreeMap::<(u32, u32), usize>::new();
    training.iter().for_each(|token| *counts.entry((before[*token], own[*token])).or_default() += 1);
    let mut pairs: Vec<((u32, u32), usize)> = counts.into_iter().collect();
    pairs.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    pairs.into_iter().map(|(pair, _)| pair).take(PATHS).zip(0..).collect()
}

/// The expert before, exchanged between the tokens of one expert.
fn exchanged(before: &[u32], own: &[u32], tokens: &[usize], seed: Seed) -> Vec<u32> {
    let mut of_expert = BTreeMap::<u32, Vec<usize>>::new();
    tokens.iter().enumerate().for_each(|(row, token)| of_expert.entry(own[*token]).or_default().push(row));
    let (mut rng, mut found) = (seed.rng(), vec![0; tokens.len()]);
    for rows in of_expert.values() {
        let mut dealt: Vec<u32> = rows.iter().map(|row| before[tokens[*row]]).collect();
        dealt.shuffle(&mut rng);
        rows.iter().zip(dealt).for_each(|(row, before)| found[*row] = before);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [usize; 3] = [12, 6, 6];

    fn parts() -> [Vec<usize>; 3] {
        let mut from = 0;
        PARTS.map(|count| {
            from += count;
            (from - count..from).collect()
        })
    }

    #[test]
    fn pairs_are_numbered_by_use_and_rare_ones_stand_together() {
        let before: Vec<u32> = (0..24).map(|token| token % 2).collect();
        let own: Vec<u32> = (0..24).map(|token| u32::from(token % 3 == 0)).collect();
        let told = Told::Path { before: &before, own: &own };
        // Of twelve training tokens the pairs (0, 0) and (1, 0) have four each, (0, 1) and (1, 1) two.
        assert_eq!(told.classes(&parts()[0]), 5);
        let [training, ..] = told.of_parts(&parts(), None);
        assert_eq!(training[..6], [2, 1, 0, 3, 0, 1]);
        let own: Vec<u32> = (0..24).collect();
        let told = Told::Path { before: &before, own: &own };
        assert!(told.of_parts(&parts(), None)[1].iter().all(|class| *class == 12), "not seen in training");
        assert_eq!(
            Told::Expert { own: &own, experts: 24 }.of_parts(&parts(), None)[2],
            [18, 19, 20, 21, 22, 23]
        );
    }

    #[test]
    fn a_shuffle_keeps_what_the_expert_tells_and_how_often_each_pair_stands() {
        let before: Vec<u32> = (0..24).map(|token| token * 7 % 4).collect();
        let own: Vec<u32> = (0..24).map(|token| token % 3).collect();
        let told = Told::Path { before: &before, own: &own };
        let (plain, shuffled) = (told.of_parts(&parts(), None), told.of_parts(&parts(), Some(Seed(3))));
        assert_ne!(plain, shuffled);
        for (mut plain, mut shuffled) in plain.into_iter().zip(shuffled) {
            plain.sort_unstable();
            shuffled.sort_unstable();
            assert_eq!(plain, shuffled);
        }
    }
}

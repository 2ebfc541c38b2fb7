//! Random sets with the loads of experts and the numbers of experts of tokens kept, for layers whose sets fit into a machine word.
//!
//! The same null as [`Trade`](super::trade::Trade), several times as fast. Which token has which set does not matter to what experts go together, so
//! that sets themselves are shuffled, and two sets trade without a branch that depends on them.

use moescope_engine::{Deposit, WithDeposit, with_deposit};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::trade::{BLOCK, Block, Lying, Turn, Way, blocks};
use crate::shuffled::shuffle;

/// A set of experts as bits.
pub(super) trait Bits: Copy + Send + Sync + PartialEq + std::fmt::Debug {
    /// Experts that there may be.
    const EXPERTS: usize;
    /// The set of no expert.
    const EMPTY: Self;
    /// The set with one more expert, or itself if that is in it.
    fn with(self, expert: u32) -> Self;
    /// What both have.
    fn both(self, other: Self) -> Self;
    /// What at least one of the two has.
    fn either(self, other: Self) -> Self;
    /// What one of the two has and the other has not.
    fn differing(self, other: Self) -> Self;
    /// Experts in the set.
    fn count(self) -> usize;
    /// The set of its lowest expert; empty if it is.
    fn lowest(self) -> Self;
    /// Those of its experts, the lowest first, whose bits are set in `half`; `deposit` does the same to words.
    fn chosen(self, half: u64, deposit: impl Deposit) -> Self;
    /// Its lowest expert; of an empty set no expert at all.
    fn first(self) -> usize;
}

macro_rules! bits {
    ($word:ty) => {
        bits!($word, |set, half, deposit| deposit(half, u64::from(set)) as $word);
    };
    ($word:ty, |$set:ident, $half:ident, $deposit:ident| $chosen:expr) => {
        impl Bits for $word {
            const EXPERTS: usize = <$word>::BITS as usize;
            const EMPTY: $word = 0;

            fn with(self, expert: u32) -> $word {
                self | 1 << expert
            }

            #[inline(always)]
            fn both(self, other: $word) -> $word {
                self & other
            }

            #[inline(always)]
            fn either(self, other: $word) -> $word {
                self | other
            }

            #[inline(always)]
            fn differing(self, other: $word) -> $word {
                self ^ other
            }

            #[inline(always)]
            fn count(self) -> usize {
                self.count_ones() as usize
            }

            #[inline(always)]
            fn lowest(self) -> $word {
                self & self.wrapping_neg()
            }

            #[inline(always)]
            fn chosen(self, $half: u64, $deposit: impl Deposit) -> $word {
                let $set = self;
                $chosen
            }

            #[inline(always)]
            fn first(self) -> usize {
                self.trailing_zeros() as usize
            }
        }
    };
}

bits!(u16);
bits!(u32);
bits!(u64);
bits!(u128, |set, half, deposit| {
    let (low, high) = (set as u64, (set >> 64) as u64);
    // Shifted by 64 nothing is left.
    let rest = half.checked_shr(low.count_ones()).unwrap_or(0);
    u128::from(deposit(half, low)) | u128::from(deposit(rest, high)) << 64
});

/// Experts of a token for which every way to divide what two tokens do not share is tabulated.
const MOST_PER_TOKEN: usize = 8;

/// The sets of a layer, and how they trade.
///
/// - **Null:** any sets with these numbers of experts of tokens and these loads of experts, all with the same chance.
/// - **Does not show:** what a router with these loads would do that reads anything at all.
/// - **Source:** swap randomisation as fast as trades allow, Strona et al. 2014; draws from a hub, Besag and Clifford 1989.
#[derive(Clone)]
pub(super) struct BitTrade<B> {
    /// The set of each token, as it was chosen, or at the hub.
    sets: Vec<B>,
    /// Experts that each token chooses.
    per_token: usize,
    /// Number of experts.
    experts: usize,
    /// Choices of `m` out of `2m`, as bits, one `m` after the other.
    halves: Vec<u16>,
    /// For each `m`, where its choices begin in `halves`.
    begins: [u32; MOST_PER_TOKEN + 2],
}

/// Room for a draw.
pub(super) struct Room<B> {
    /// The sets of all tokens, as they are drawn.
    sets: Vec<B>,
    /// Those that trade among one another, side by side.
    block: Vec<B>,
}

impl<B: Bits> BitTrade<B> {
    /// The sets of `choices[token, slot]`; none where there are more experts than bits, or more of a token than are tabulated.
    pub(super) fn new(choices: &[u32], per_token: usize, experts: usize) -> Option<BitTrade<B>> {
        if experts > B::EXPERTS || per_token > MOST_PER_TOKEN {
            return None;
        }
        let set = |experts: &[u32]| experts.iter().fold(B::EMPTY, |set, expert| set.with(*expert));
        let sets = choices.chunks_exact(per_token).map(set).collect();
        let (mut halves, mut begins) = (Vec::new(), [0; MOST_PER_TOKEN + 2]);
        for m in 0..=per_token {
            let half = |choice: &u32| choice.count_ones() as usize == m;
            halves.extend((0..1u32 << (2 * m)).filter(half).map(|choice| choice as u16));
            begins[m + 1] = halves.len() as u32;
        }
        Some(BitTrade { sets, per_token, experts, halves, begins })
    }

    /// Room for draws, one after the other.
    pub(super) fn room(&self) -> Room<B> {
        Room { sets: self.sets.clone(), block: Vec::with_capacity(BLOCK) }
    }

    /// Goes from the data back to the hub, where all draws begin.
    pub(super) fn go_back(&mut self, rng: &mut ChaCha8Rng) {
        struct Back<'a, B>(&'a mut BitTrade<B>, &'a mut ChaCha8Rng);
        impl<B: Bits> WithDeposit for Back<'_, B> {
            type Output = ();

            #[inline(always)]
            fn run(self, deposit: impl Deposit) {
                self.0.go_back_with(self.1, deposit);
            }
        }
        with_deposit(Back(self, rng));
    }

    #[inline(always)]
    fn go_back_with(&mut self, rng: &mut ChaCha8Rng, deposit: impl Deposit) {
        let mut block = Vec::with_capacity(BLOCK);
        let mut sets = std::mem::take(&mut self.sets);
        // Which token has which set does not matter, and trades of neighbours shall be trades of any two.
        for place in blocks(sets.len(), Lying::Apart) {
            visit(&mut sets, place, &mut block, |block| shuffle(block, rng));
        }
        for Turn { lying, rounds } in Way::Back.turns() {
            for place in blocks(sets.len(), lying) {
                visit(&mut sets, place, &mut block, |block| {
                    (0..rounds).rev().for_each(|round| self.trade_round(round, block, rng, deposit));
                    shuffle(block, rng);
                });
            }
        }
        self.sets = sets;
    }

    /// A draw of the null: sets of as many tokens, in no order.
    #[inline(always)]
    fn draw<'a>(&self, room: &'a mut Room<B>, rng: &mut ChaCha8Rng, deposit: impl Deposit) -> &'a [B] {
        let Room { sets, block } = room;
        sets.copy_from_slice(&self.sets);
        for Turn { lying, rounds } in Way::There.turns() {
            for place in blocks(sets.len(), lying) {
                visit(sets, place, block, |block| {
                    shuffle(block, rng);
                    (0..rounds).for_each(|round| self.trade_round(round, block, rng, deposit));
                });
            }
        }
        sets
    }

    /// Every set trades with its neighbour, or in the other round with one that is half of the block away. Of an odd number one waits.
    #[inline(always)]
    fn trade_round(&self, round: usize, block: &mut [B], rng: &mut ChaCha8Rng, deposit: impl Deposit) {
        if round == 0 {
            for pair in block.chunks_exact_mut(2) {
                [pair[0], pair[1]] = self.trade(pair[0], pair[1], rng, deposit);
            }
            return;
        }
        let (low, high) = block.split_at_mut(block.len() / 2);
        for (first, second) in low.iter_mut().zip(high) {
            [*first, *second] = self.trade(*first, *second, rng, deposit);
        }
    }

    /// What only one of the two has is divided anew between them, each way with the same chance (to one part in 300,000).
    #[inline(always)]
    fn trade(&self, first: B, second: B, rng: &mut ChaCha8Rng, deposit: impl Deposit) -> [B; 2] {
        let (shared, all) = (first.both(second), first.differing(second));
        let m = all.count() / 2;
        let (begin, end) = (self.begins[m], self.begins[m + 1]);
        let pick = (u64::from(rng.next_u32()) * u64::from(end - begin)) >> 32;
        let half = self.halves[begin as usize + pick as usize];
        let mine = all.chosen(u64::from(half), deposit);
        [shared.either(mine), shared.either(all.differing(mine))]
    }

    /// Tokens of a draw that have both of two experts, `[expert, partner]`; on the diagonal the load, which no draw changes.
    pub(super) fn pairs(&self, room: &mut Room<B>, rng: &mut ChaCha8Rng) -> Vec<u32> {
        struct Draw<'a, B>(&'a BitTrade<B>, &'a mut Room<B>, &'a mut ChaCha8Rng);
        impl<B: Bits> WithDeposit for Draw<'_, B> {
            type Output = Vec<u32>;

            #[inline(always)]
            fn run(self, deposit: impl Deposit) -> Vec<u32> {
                self.0.pairs_with(self.1, self.2, deposit)
            }
        }
        with_deposit(Draw(self, room, rng))
    }

    #[inline(always)]
    fn pairs_with(&self, room: &mut Room<B>, rng: &mut ChaCha8Rng, deposit: impl Deposit) -> Vec<u32> {
        let n = self.experts;
        let mut counts = vec![0; n * n];
        for set in self.draw(room, rng, deposit) {
            let mut rest = *set;
            for _ in 0..self.per_token {
                let lowest = rest.lowest();
                rest = rest.differing(lowest);
                let row = &mut counts[lowest.first() * n..][..n];
                row[lowest.first()] += 1;
                let mut partners = rest;
                while partners != B::EMPTY {
                    let partner = partners.lowest();
                    partners = partners.differing(partner);
                    row[partner.first()] += 1;
                }
            }
        }
        for expert in 0..n {
            (0..expert).for_each(|partner| counts[expert * n + partner] = counts[partner * n + expert]);
        }
        counts
    }
}

/// Takes the sets of a block out, side by side, and puts them back after a change.
#[inline(always)]
fn visit<B: Copy>(sets: &mut [B], place: Block, block: &mut Vec<B>, change: impl FnOnce(&mut [B])) {
    let Block { start, distance, tokens } = place;
    let places = || (0..tokens as usize).map(|token| start + token * distance);
    block.clear();
    block.extend(places().map(|place| sets[place]));
    change(block);
    places().zip(&*block).for_each(|(place, set)| sets[place] = *set);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::counting::Pairs;
    use crate::routing::planted;
    use crate::routing::trade::Trade;
    use moescope_base::Seed;
    use moescope_engine::deposit_slowly;
    use proptest::prelude::*;

    fn loads<B: Bits>(sets: &[B], experts: u32) -> Vec<usize> {
        let has = |expert| sets.iter().filter(|set| set.both(B::EMPTY.with(expert)) != B::EMPTY).count();
        (0..experts).map(has).collect()
    }

    proptest! {
        #[test]
        fn draws_keep_sets_and_loads(seed in 0u64..500, tokens in 1usize..60, per_token in 1usize..=8) {
            let weight = |e| f64::from(e + 1);
            let before = planted::random_sets(tokens, 12, per_token, weight, &mut Seed(seed).rng());
            let narrow = BitTrade::<u64>::new(&before, per_token, 12).unwrap();
            let wide = BitTrade::<u128>::new(&before, per_token, 12).unwrap();
            let mut room = narrow.room();
            let after = narrow.draw(&mut room, &mut Seed(seed).rng(), deposit_slowly);
            prop_assert_eq!(loads(after, 12), loads(&narrow.sets, 12));
            prop_assert!(after.iter().all(|set| set.count() == per_token));
            let mut room = wide.room();
            let again = wide.draw(&mut room, &mut Seed(seed).rng(), deposit_slowly);
            prop_assert!(again.iter().zip(after).all(|(wide, narrow)| *wide == u128::from(*narrow)));
        }

        #[test]
        fn the_chosen_of_a_set_are_those_whose_bits_are_set(half: u64, set: u128) {
            let chosen = set.chosen(half, deposit_slowly);
            prop_assert_eq!(chosen & !set, 0);
            let mut rest = set;
            for bit in 0..set.count_ones() {
                let place = rest.lowest();
                prop_assert_eq!(chosen & place != 0, bit < 64 && half >> bit & 1 == 1);
                rest ^= place;
            }
            let narrow = set as u64;
            prop_assert_eq!(u128::from(narrow.chosen(half, deposit_slowly)), u128::from(narrow).chosen(half, deposit_slowly));
        }

        #[test]
        fn pairs_are_those_of_the_sets(seed in 0u64..200, per_token in 1usize..=5) {
            let sets = planted::random_sets(40, 9, per_token, |_| 1.0, &mut Seed(seed).rng());
            let trade = BitTrade::<u64>::new(&sets, per_token, 9).unwrap();
            let found = trade.pairs(&mut trade.room(), &mut Seed(seed).rng());
            let mut room = trade.room();
            let drawn = trade.draw(&mut room, &mut Seed(seed).rng(), deposit_slowly);
            let listed = |set: &u64| (0..9).filter(|e| set >> e & 1 == 1).collect::<Vec<u32>>();
            let mut wanted = Pairs::new(9);
            wanted.add(&drawn.iter().flat_map(listed).collect::<Vec<u32>>(), per_token);
            prop_assert_eq!(found, wanted.counts());
        }
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_other_way() {
        let ten: Vec<u32> = (0..10).collect();
        assert!(BitTrade::<u64>::new(&[0, 64], 2, 65).is_none());
        assert!(BitTrade::<u128>::new(&[0, 64], 2, 65).is_some());
        assert!(BitTrade::<u64>::new(&ten, 10, 12).is_none());
    }

    #[test]
    fn two_sets_come_out_of_a_trade_in_every_way_alike_often() {
        let trade = BitTrade::<u64>::new(&[0, 1, 2, 1, 3, 4], 3, 6).unwrap();
        let mut rng = Seed(4).rng();
        let mut seen = BTreeMap::<[u64; 2], u32>::new();
        for _ in 0..6_000 {
            *seen.entry(trade.trade(0b000111, 0b011010, &mut rng, deposit_slowly)).or_default() += 1;
        }
        // Expert 1 is shared; of 0, 2, 3 and 4 the first has two: six ways, 1,000 each with a standard deviation of 29.
        assert_eq!(seen.len(), 6);
        assert!(seen.keys().all(|[a, b]| a & b == 0b10 && a | b == 0b11111));
        assert!(seen.values().all(|times| (880..1120).contains(times)), "{seen:?}");
    }

    #[test]
    fn all_sets_with_the_same_loads_are_drawn_alike_often() {
        // Four tokens with two of four experts each, every expert twice: 90 ways.
        let trade = BitTrade::<u64>::new(&[0, 1, 0, 1, 2, 3, 2, 3], 2, 4).unwrap();
        let (mut room, mut rng) = (trade.room(), Seed(9).rng());
        let mut seen = BTreeMap::<Vec<u64>, f64>::new();
        for _ in 0..18_000 {
            let mut trade = trade.clone();
            trade.go_back(&mut rng);
            *seen.entry(trade.draw(&mut room, &mut rng, deposit_slowly).to_vec()).or_default() += 1.0;
        }
        assert_eq!(seen.len(), 90);
        let chi: f64 = seen.values().map(|times| (times - 200.0).powi(2) / 200.0).sum();
        // 89 degrees of freedom: mean 89, standard deviation 13.
        assert!(chi < 150.0, "{chi}");
    }

    #[test]
    fn a_large_layer_forgets_committees_and_topics_as_it_does_the_other_way() {
        let tokens = 3 * BLOCK + 7;
        let mut rng = Seed(5).rng();
        let sets = planted::committees(tokens, &mut rng);
        let mut trade = BitTrade::<u64>::new(&sets, 2, 8).unwrap();
        trade.go_back(&mut rng);
        let mut other = sets.clone();
        Trade::new(8).randomise(&mut other, 2, Way::Back, &mut rng);
        Trade::new(8).randomise(&mut other, 2, Way::There, &mut rng);
        let mut pairs = Pairs::new(8);
        pairs.add(&other, 2);
        let (found, other) = (trade.pairs(&mut trade.room(), &mut rng), pairs.counts());
        for (a, b) in [(0, 1), (0, 2), (0, 4), (3, 7), (6, 7)] {
            let [found, other] = [&found, &other].map(|counts| f64::from(counts[8 * a + b]) / tokens as f64);
            assert!((found - other).abs() < 0.008, "{a} {b}: {found} {other}");
            assert!((found - 1.0 / 28.0).abs() < 0.007, "{a} {b}: {found}");
        }
    }
}

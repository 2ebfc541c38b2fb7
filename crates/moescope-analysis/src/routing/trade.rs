//! Random sets with the loads of experts and the numbers of experts of tokens kept.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Random trades between pairs of tokens of the experts that only one of the two has.
pub(super) struct Trade {
    /// Whether an expert is in the first token's set.
    in_first: Vec<bool>,
    in_second: Vec<bool>,
    pool: Vec<u32>,
    /// Tokens in the order in which they meet.
    order: Vec<u32>,
}

/// Which of the two ways a draw of the null is gone.
///
/// Draws do not begin at the data but at a hub: once from the data back to the hub, then for every draw from the hub there. Both have the same steps in the
/// opposite order, so that under the null the data are one more draw, however short the way is (Besag and Clifford 1989). From the data to a draw
/// every token trades in six rounds (Strona et al. use five trades for each token). Where two tokens differ in `m` experts each, partners stay
/// together in `(m − 1) / (2m − 1)` of the trades: of what goes together in the data a thousandth is left in the draws where tokens choose
/// two experts, a hundredth where they choose eight, by which the excess is too small. Pairs drawn one by one would leave some tokens
/// without a trade, and what goes together a little too often in the null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the data to the hub.
    Back,
    /// From the hub to a draw.
    There,
}

/// Where the tokens of a block lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lying {
    /// Side by side.
    Together,
    /// At even distances, which mixes all parts of the text.
    Apart,
}

/// A walk through all blocks, with rounds in each of which every token of a block trades once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) lying: Lying,
    pub(super) rounds: usize,
}

/// From the hub to a draw.
const TURNS: [Turn; 2] =
    [Turn { lying: Lying::Together, rounds: 1 }, Turn { lying: Lying::Apart, rounds: 2 }];

/// Tokens that trade among one another at a time.
pub(super) const BLOCK: usize = 4096;

impl Way {
    /// The turns, in order.
    pub(super) fn turns(self) -> [Turn; 2] {
        let [first, second] = TURNS;
        match self {
            Way::There => [first, second],
            Way::Back => [second, first],
        }
    }
}

/// Tokens at even distances.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) distance: usize,
    pub(super) tokens: u32,
}

/// The blocks of a turn.
pub(super) fn blocks(tokens: usize, lying: Lying) -> impl Iterator<Item = Block> {
    let blocks = tokens.div_ceil(BLOCK);
    (0..blocks).map(move |block| match lying {
        Lying::Apart => {
            Block { start: block, distance: blocks, tokens: (tokens - block).div_ceil(blocks) as u32 }
        }
        Lying::Together => {
            let (start, end) = (block * tokens / blocks, (block + 1) * tokens / blocks);
            Block { start, distance: 1, tokens: (end - start) as u32 }
        }
    })
}

impl Trade {
    pub(super) fn new(experts: usize) -> Trade {
        let marks = vec![false; experts];
        Trade { in_first: marks.clone(), in_second: marks, pool: Vec::new(), order: Vec::new() }
    }

    /// Trades the sets `[token, slot]` from the data to the hub, or from there to a draw of the null.
    ///
    /// Large layers are traded block by block, so that what is traded is in the cache. Which tokens trade never depends on their sets, so all draws
    /// stay equally likely.
    pub(super) fn randomise(
        &mut self,
        choices: &mut [u32],
        per_token: usize,
        way: Way,
        rng: &mut ChaCha8Rng,
    ) {
        for Turn { lying, rounds } in way.turns() {
            for block in blocks(choices.len() / per_token, lying) {
                self.trade_within(block, rounds, choices, per_token, rng);
            }
        }
    }

    fn trade_within(
        &mut self,
        block: Block,
        rounds: usize,
        choices: &mut [u32],
        per_token: usize,
        rng: &mut ChaCha8Rng,
    ) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..block.tokens);
        let place = |token: u32| block.start + token as usize * block.distance;
        for _ in 0..rounds {
            order.shuffle(rng);
            // Of an odd number one token waits for the next round.
            for pair in order.chunks_exact(2) {
                let (low, high) = (place(pair[0].min(pair[1])), place(pair[0].max(pair[1])));
                let (head, tail) = choices.split_at_mut(high * per_token);
                self.trade(&mut head[low * per_token..(low + 1) * per_token], &mut tail[..per_token], rng);
            }
        }
        self.order = order;
    }

    fn trade(&mut self, first: &mut [u32], second: &mut [u32], rng: &mut ChaCha8Rng) {
        first.iter().for_each(|e| self.in_first[*e as usize] = true);
        second.iter().for_each(|e| self.in_second[*e as usize] = true);
        self.pool.clear();
        self.pool.extend(first.iter().filter(|e| !self.in_second[**e as usize]));
        self.pool.extend(second.iter().filter(|e| !self.in_first[**e as usize]));
        // Both tokens put in as many experts as they take out, so each keeps its number.
        for i in 0..self.pool.len() / 2 {
            let other = rng.random_range(i as u32..self.pool.len() as u32) as usize;
            self.pool.swap(i, other);
        }
        let mut next = self.pool.iter().copied();
        deal(first, &self.in_second, &mut next);
        deal(second, &self.in_first, &mut next);
        // What was marked is now in the pool, or shared and still in the first set.
        for expert in self.pool.iter().chain(first.iter()) {
            self.in_first[*expert as usize] = false;
            self.in_second[*expert as usize] = false;
        }
    }
}

/// Replaces the experts that the other token lacks.
fn deal(set: &mut [u32], others: &[bool], next: &mut impl Iterator<Item = u32>) {
    for own in set.iter_mut().filter(|own| !others[**own as usize]) {
        *own = next.next().expect("the pool holds one expert for each that was put in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;

    fn counts(choices: &[u32], experts: usize) -> Vec<u32> {
        let mut counts = vec![0; experts];
        choices.iter().for_each(|expert| counts[*expert as usize] += 1);
        counts
    }

    #[test]
    fn loads_and_sets_stay_loads_and_sets_also_block_by_block() {
        for tokens in [1, 2, 37, BLOCK + 1, 3 * BLOCK - 5] {
            let mut rng = Seed(tokens as u64).rng();
            let sets = planted::random_sets(tokens, 12, 3, |e| f64::from(1 + e), &mut rng);
            let mut traded = sets.clone();
            Trade::new(12).randomise(&mut traded, 3, Way::Back, &mut rng);
            Trade::new(12).randomise(&mut traded, 3, Way::There, &mut rng);
            assert_eq!(counts(&traded, 12), counts(&sets, 12));
            assert!(traded.chunks(3).all(|s| s[0] != s[1] && s[1] != s[2] && s[0] != s[2]));
            assert_eq!(traded == sets, tokens == 1);
        }
    }

    #[test]
    fn blocks_forget_what_goes_together_and_where_as_well_as_free_trades_do() {
        let tokens = 3 * BLOCK;
        let mut rng = Seed(5).rng();
        let sets = planted::committees(tokens, &mut rng);
        let together = |sets: &[u32], a: u32, b: u32| {
            sets.chunks(2).filter(|set| set.contains(&a) && set.contains(&b)).count() as f64 / tokens as f64
        };
        let mut blocks = sets.clone();
        Trade::new(8).randomise(&mut blocks, 2, Way::Back, &mut rng);
        Trade::new(8).randomise(&mut blocks, 2, Way::There, &mut rng);
        let mut free = sets.clone();
        let all = Block { start: 0, distance: 1, tokens: tokens as u32 };
        Trade::new(8).trade_within(all, 6, &mut free, 2, &mut rng);
        // A quarter of the tokens had experts 0 and 1, and none 0 and 4; of eight experts of even load any two meet in one of 28, with a
        // standard error of 0.0017.
        for (a, b) in [(0, 1), (0, 2), (0, 4), (3, 7), (6, 7)] {
            let (blocks, free) = (together(&blocks, a, b), together(&free, a, b));
            assert!((blocks - free).abs() < 0.008, "{a} {b}: {blocks} {free}");
            assert!((blocks - 1.0 / 28.0).abs() < 0.007, "{a} {b}: {blocks}");
        }
    }
}

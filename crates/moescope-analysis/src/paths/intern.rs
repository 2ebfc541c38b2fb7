use moescope_trace::LayerRouting;
use rayon::prelude::*;

use crate::grouped::grouped;

/// Equal things under equal numbers: `ids[token]`, numbered in the order of first appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interned {
    /// Number of the thing at each token.
    pub ids: Vec<u32>,
    /// Number of distinct things.
    pub distinct: usize,
}

impl Interned {
    /// Numbers keys by first appearance.
    ///
    /// Small keys are looked up in a table; others are sorted and not hashed, so that the result depends on the keys' order of appearance alone.
    pub(crate) fn of_keys(keys: &[u64]) -> Interned {
        let most = keys.iter().max().map_or(0, |most| *most);
        if most < 4 * keys.len() as u64 { Interned::tabled(keys, most) } else { Interned::sorted(keys) }
    }

    fn tabled(keys: &[u64], most: u64) -> Interned {
        let mut number = vec![u32::MAX; most as usize + 1]; // [key]
        let mut distinct = 0;
        let id = |key: &u64| {
            let own = &mut number[*key as usize];
            if *own == u32::MAX {
                *own = distinct;
                distinct += 1;
            }
            *own
        };
        let ids = keys.iter().map(id).collect();
        Interned { ids, distinct: distinct as usize }
    }

    fn sorted(keys: &[u64]) -> Interned {
        let mut order: Vec<(u64, u32)> = keys.iter().copied().zip(0..).collect();
        order.par_sort_unstable();
        let mut first = vec![0u32; keys.len()]; // [token]: first token with the same key
        for run in order.chunk_by(|a, b| a.0 == b.0) {
            run.iter().for_each(|(_, token)| first[*token as usize] = run[0].1);
        }
        let mut ids = vec![0u32; keys.len()];
        let mut distinct = 0;
        for token in 0..keys.len() {
            ids[token] = if first[token] as usize == token {
                distinct += 1;
                distinct - 1
            } else {
                ids[first[token] as usize]
            };
        }
        Interned { ids, distinct: distinct as usize }
    }

    /// The set of experts of each token in one layer, whatever their order by weight.
    pub fn sets(layer: &LayerRouting) -> Interned {
        if layer.experts <= 64 {
            let mask = |set: &[u32]| set.iter().fold(0u64, |mask, expert| mask | 1 << expert);
            let keys: Vec<u64> = layer.choices.chunks_exact(layer.per_token).map(mask).collect();
            return Interned::of_keys(&keys);
        }
        let mut sorted = layer.choices.clone(); // [token, slot]
        sorted.chunks_exact_mut(layer.per_token).for_each(<[u32]>::sort_unstable);
        let slot = |slot: usize| sorted.iter().skip(slot).step_by(layer.per_token).copied();
        combine((0..layer.per_token).map(|s| (slot(s), layer.experts as u64)), sorted.len() / layer.per_token)
    }

    /// The first choice of each token in one layer.
    pub fn first_choices(layer: &LayerRouting) -> Interned {
        let keys: Vec<u64> =
            layer.choices.iter().step_by(layer.per_token).map(|expert| u64::from(*expert)).collect();
        Interned::of_keys(&keys)
    }

    /// What each token meets over all parts, in order.
    pub(crate) fn sequence(parts: &[Interned], tokens: usize) -> Interned {
        combine(parts.iter().map(|p| (p.ids.iter().copied(), p.distinct as u64)), tokens)
    }

    /// How often each thing occurs: `count[id]`.
    pub fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.distinct];
        self.ids.iter().for_each(|id| counts[*id as usize] += 1);
        counts
    }

    /// A token at which each thing occurs: `token[id]`.
    pub(crate) fn examples(&self) -> Vec<u32> {
        let mut examples = vec![0; self.distinct];
        (0..self.ids.len()).rev().for_each(|token| examples[self.ids[token] as usize] = token as u32);
        examples
    }
}

/// Numbers tuples whose parts have codes below the given limits.
fn combine<I: Iterator<Item = u32>>(parts: impl Iterator<Item = (I, u64)>, tokens: usize) -> Interned {
    Interned::of_keys(&keys(parts, tokens))
}

/// How often each tuple occurs whose parts have codes below the given limits, in no order that matters.
///
/// Tuples are not numbered: they are dealt by their first digits among parts that a cache holds, and each part is sorted by itself.
pub(super) fn how_often(parts: &[(&[u32], usize)], tokens: usize) -> Vec<u32> {
    let keys = keys(parts.iter().map(|(codes, limit)| (codes.iter().copied(), *limit as u64)), tokens);
    let digits = u64::BITS - keys.iter().max().map_or(u64::BITS, |most| most.leading_zeros());
    let part = |key: u64| (key >> digits.saturating_sub(PART_DIGITS)) as usize;
    let (mut dealt, ends) = grouped(1 << PART_DIGITS, || keys.iter().map(|key| (part(*key), *key)));
    let (mut counts, mut start) = (Vec::new(), 0);
    for end in ends {
        let part = &mut dealt[start..end as usize];
        part.sort_unstable();
        counts.extend(part.chunk_by(|a, b| a == b).map(|run| run.len() as u32));
        start = end as usize;
    }
    counts
}

/// Binary digits by which keys are dealt among parts.
const PART_DIGITS: u32 = 11;

/// Mixed-radix keys of tuples, which are renumbered when full.
fn keys<I: Iterator<Item = u32>>(parts: impl Iterator<Item = (I, u64)>, tokens: usize) -> Vec<u64> {
    let mut keys = vec![0u64; tokens];
    let mut radix = 1u64;
    for (codes, limit) in parts {
        let limit = limit.max(1);
        if radix.checked_mul(limit).is_none() {
            let dense = Interned::of_keys(&keys);
            keys = dense.ids.iter().map(|id| u64::from(*id)).collect();
            radix = dense.distinct as u64;
        }
        keys.iter_mut().zip(codes).for_each(|(key, code)| *key = *key * limit + u64::from(code));
        radix *= limit;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layer(experts: usize, per_token: usize, choices: Vec<u32>) -> LayerRouting {
        let tokens = choices.len() / per_token;
        let (weights, entropy, margin) = (vec![1.0; choices.len()], vec![0.0; tokens], vec![0.0; tokens]);
        let relative_margin = vec![0.0; tokens];
        LayerRouting { layer: 0, experts, per_token, choices, weights, entropy, margin, relative_margin }
    }

    #[test]
    fn sets_are_free_of_order_with_few_and_with_many_experts() {
        for experts in [8, 500] {
            let sets = Interned::sets(&layer(experts, 2, vec![3, 1, 1, 2, 1, 3, 2, 1]));
            assert_eq!((sets.ids.clone(), sets.distinct), (vec![0, 1, 0, 1], 2));
            assert_eq!((sets.counts(), sets.examples()), (vec![2, 2], vec![0, 1]));
        }
        assert_eq!(Interned::first_choices(&layer(8, 2, vec![3, 1, 1, 2, 1, 3, 2, 1])).ids, [0, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_table_numbers_as_sorting_does(keys in prop::collection::vec(0u64..9, 0..40)) {
            prop_assert_eq!(Interned::tabled(&keys, 8), Interned::sorted(&keys));
        }

        #[test]
        fn tuples_occur_as_often_as_their_numbers(
            tokens in prop::collection::vec(prop::collection::vec(0u32..3, 9), 0..60), wide in any::<bool>(),
        ) {
            let limit = if wide { 1 << 20 } else { 3 };
            let codes: Vec<Vec<u32>> = (0..9).map(|p| tokens.iter().map(|t| t[p]).collect()).collect();
            let parts: Vec<(&[u32], usize)> = codes.iter().map(|codes| (codes.as_slice(), limit)).collect();
            let numbered = combine(parts.iter().map(|(codes, l)| (codes.iter().copied(), *l as u64)), tokens.len());
            let [mut found, mut wanted] = [how_often(&parts, tokens.len()), numbered.counts()];
            [&mut found, &mut wanted].into_iter().for_each(|counts| counts.sort_unstable());
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn tokens_share_a_number_exactly_if_they_share_every_part(
            tokens in prop::collection::vec(prop::collection::vec(0u32..3, 9), 1..30),
        ) {
            // Limits so large that the keys overflow and are renumbered on the way.
            let part = |p: usize| (tokens.iter().map(move |t| t[p]), 1u64 << 20);
            let joined = combine((0..9).map(part), tokens.len());
            for a in 0..tokens.len() {
                for b in 0..tokens.len() {
                    prop_assert_eq!(joined.ids[a] == joined.ids[b], tokens[a] == tokens[b]);
                }
            }
        }
    }
}

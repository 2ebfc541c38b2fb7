//! The tokens by which an expert is known.

use std::collections::BTreeMap;

use rayon::prelude::*;

use moescope_trace::LayerRouting;

use crate::along::Along;
use crate::routing::Permutations;
use crate::statistics::{mean, standard_deviation};

/// Occurrences below which a token is not looked at.
const FEWEST: u32 = 5;

/// A token that an expert is chosen for more often than its load would have it.
///
/// - **Unit:** `deviance` in standard deviations of chance, as the signed root of the deviance of a binomial; 0 is as often as the load.
/// - **Does not show:** why: a token may go to an expert for what goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Telling {
    /// Token id.
    pub id: u32,
    /// Occurrences that chose the expert.
    pub hits: u32,
    /// Occurrences.
    pub of: u32,
    /// How far beyond chance.
    pub deviance: f64,
}

/// What tokens tell of one expert.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Share of the tokens that choose it.
    pub load: f64,
    /// The most telling tokens, the first the most; none where no token occurs five times, or all or none choose the expert.
    pub first: Vec<Telling>,
    /// Mean deviance of its most telling token when routes are moved along each document.
    pub null: f64,
    /// Share of the draws of all experts of the layer whose most telling token tells as much, each beside what its expert reaches by chance.
    pub p_value: f64,
}

/// Token ids that occur often enough, as small numbers.
struct Types {
    ids: Vec<u32>,
    /// Occurrences of each.
    of: Vec<u32>,
    /// Type of each token, if it counts.
    of_token: Vec<Option<u32>>,
}

impl Types {
    fn new(tokens: &[u32]) -> Types {
        let mut counts = BTreeMap::<u32, u32>::new();
        tokens.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        counts.retain(|_, count| *count >= FEWEST);
        let place: BTreeMap<u32, u32> = counts.keys().copied().zip(0..).collect();
        let of_token = tokens.iter().map(|id| place.get(id).copied()).collect();
        Types { ids: counts.keys().copied().collect(), of: counts.into_values().collect(), of_token }
    }

    /// Tokens of each type that choose each expert, `[expert][type]`; `route_of` names the token whose choice a token has.
    fn hits(&self, layer: &LayerRouting, route_of: impl Fn(usize) -> usize) -> Vec<Vec<u32>> {
        let mut hits = vec![vec![0; self.ids.len()]; layer.experts];
        for (token, kind) in self.of_token.iter().enumerate() {
            if let Some(kind) = kind {
                layer.chosen(route_of(token)).iter().for_each(|e| hits[*e as usize][*kind as usize] += 1);
            }
        }
        hits
    }

    /// How far beyond chance each type is, of an expert with this load.
    fn deviances(&self, hits: &[u32], load: f64) -> impl Iterator<Item = (usize, f64)> {
        let one = move |(hits, of): (u32, u32)| signed_deviance(f64::from(hits), f64::from(of), load);
        hits.iter().copied().zip(self.of.iter().copied()).map(one).enumerate().collect::<Vec<_>>().into_iter()
    }
}

/// The signed root of the deviance of `hits` in `of` trials from a chance of `share`.
fn signed_deviance(hits: f64, of: f64, share: f64) -> f64 {
    let part = |seen: f64, wanted: f64| if seen == 0.0 { 0.0 } else { seen * (seen / wanted).ln() };
    let deviance = 2.0 * (part(hits, of * share) + part(of - hits, of * (1.0 - share)));
    deviance.max(0.0).sqrt() * (hits - of * share).signum()
}

/// What tokens tell of each expert of a layer; `ids[token]`, `documents[token]`.
///
/// Null: the routes of each document are moved along it by a random number of tokens, its end coming round to its beginning. Tokens of one
/// document share what it speaks of, and neighbours share more, so that an expert of one subject and a word of that subject go together without
/// one telling the other; that is no finding here. Loads, sets and what neighbouring tokens have in common are kept. The
/// p-value compares with the draws of all experts of the layer, each in units of its own mean and spread, so that few draws suffice for many experts.
pub fn telling_tokens(
    layer: &LayerRouting,
    ids: &[u32],
    documents: &[u32],
    count: usize,
    permutations: Permutations,
) -> Vec<Tokens> {
    let types = Types::new(ids);
    let loads: Vec<f64> = loads(layer, ids.len());
    let largest = |hits: &[Vec<u32>]| -> Vec<f64> {
        let of =
            |(hits, load): (&Vec<u32>, &f64)| types.deviances(hits, *load).map(|d| d.1).fold(0.0, f64::max);
        hits.iter().zip(&loads).map(of).collect()
    };
    let along = Along::new(documents);
    let shuffle = |draw: usize| {
        let order = along.draw(&mut permutations.seed.index(draw as u64).rng());
        largest(&types.hits(layer, |token| order[token] as usize))
    };
    let nulls: Vec<Vec<f64>> = (0..permutations.count).into_par_iter().map(shuffle).collect(); // [draw][expert]
    let hits = types.hits(layer, |token| token);
    let own: Vec<(f64, f64)> = (0..layer.experts).map(|expert| usual(&nulls, expert)).collect();
    // Experts of a few long stretches of text reach far by chance, others do not: each is measured by what it reaches itself.
    let standard = |largest: &[f64]| -> Vec<f64> {
        let one = |(largest, (mean, spread)): (&f64, &(f64, f64))| match *spread > 0.0 {
            true => (largest - mean) / spread,
            false => 0.0,
        };
        largest.iter().zip(&own).map(one).collect()
    };
    let (seen, draws) = (standard(&largest(&hits)), nulls.iter().flat_map(|draw| standard(draw)));
    let mut draws: Vec<f64> = draws.collect();
    draws.sort_by(f64::total_cmp);
    let tokens = |expert: usize| {
        let mut first: Vec<Telling> = types
            .deviances(&hits[expert], loads[expert])
            .filter(|(_, deviance)| *deviance > 0.0)
            .map(|(kind, deviance)| Telling {
                id: types.ids[kind],
                hits: hits[expert][kind],
                of: types.of[kind],
                deviance,
            })
            .collect();
        first.sort_by(|a, b| b.deviance.total_cmp(&a.deviance).then(a.id.cmp(&b.id)));
        first.truncate(count);
        // A draw that moves nothing gives the same number but for its last digits.
        let as_much = draws.len() - draws.partition_point(|null| *null < seen[expert] - 1e-9);
        Tokens {
            load: loads[expert],
            first,
            null: own[expert].0,
            p_value: (1 + as_much) as f64 / (1 + draws.len()) as f64,
        }
    };
    (0..layer.experts).map(tokens).collect()
}

/// Mean and standard deviation of the largest deviance of an expert over the draws.
fn usual(nulls: &[Vec<f64>], expert: usize) -> (f64, f64) {
    let own: Vec<f64> = nulls.iter().map(|draw| draw[expert]).collect();
    (mean(&own), standard_deviation(&own))
}

/// Share of the tokens that choose each expert.
fn loads(layer: &LayerRouting, tokens: usize) -> Vec<f64> {
    let mut counts = vec![0_usize; layer.experts];
    layer.choices.iter().for_each(|expert| counts[*expert as usize] += 1);
    counts.into_iter().map(|count| count as f64 / tokens.max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use rand::RngExt;

    fn layer(experts: usize, choices: Vec<u32>) -> LayerRouting {
        let tokens = choices.len();
        LayerRouting {
            layer: 0,
            experts,
            per_token: 1,
            choices,
            weights: vec![1.0; tokens],
            entropy: vec![0.0; tokens],
            margin: vec![0.0; tokens],
            relative_margin: vec![0.0; tokens],
        }
    }

    /// Documents of twenty tokens.
    fn found(layer: &LayerRouting, ids: &[u32], seed: u64) -> Vec<Tokens> {
        let documents: Vec<u32> = (0..ids.len() as u32).map(|token| token / 20).collect();
        telling_tokens(layer, ids, &documents, 3, Permutations::new(19, Seed(seed)))
    }

    #[test]
    fn deviances_by_hand() {
        assert_eq!(signed_deviance(2.0, 8.0, 0.25), 0.0);
        // All four of four at one half: 2 · 4 · ln 2.
        assert!((signed_deviance(4.0, 4.0, 0.5) - (8.0 * 2f64.ln()).sqrt()).abs() < 1e-12);
        assert!((signed_deviance(0.0, 4.0, 0.5) + (8.0 * 2f64.ln()).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_planted_token_is_found_and_rare_ones_are_not_looked_at() {
        // Token 7 always goes to expert 2, token 9 as well but occurs four times only; all others go anywhere.
        let mut rng = Seed(3).rng();
        let ids: Vec<u32> = (0..400)
            .map(|t| {
                if t % 10 == 0 {
                    7
                } else if t % 101 == 1 {
                    9
                } else {
                    t % 6
                }
            })
            .collect();
        let choices = ids.iter().map(|id| if *id >= 7 { 2 } else { rng.random_range(0..4) }).collect();
        let found = found(&layer(4, choices), &ids, 1);
        let first = found[2].first[0];
        assert_eq!((first.id, first.hits, first.of), (7, 40, 40));
        assert!(
            found[2].p_value < 0.02 && found[2].first[0].deviance > 2.0 * found[2].null,
            "{:?}",
            found[2]
        );
        assert!(found.iter().flat_map(|tokens| &tokens.first).all(|telling| telling.id != 9));
        assert!((found.iter().map(|tokens| tokens.load).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn experts_may_be_relabelled() {
        let mut rng = Seed(5).rng();
        let ids: Vec<u32> = (0..300).map(|_| rng.random_range(0..20)).collect();
        let choices: Vec<u32> = ids.iter().map(|id| (id * 3 + rng.random_range(0..3)) % 5).collect();
        let turned = choices.iter().map(|expert| 4 - expert).collect();
        let (plain, mut turned) = (found(&layer(5, choices), &ids, 2), found(&layer(5, turned), &ids, 2));
        turned.reverse();
        assert_eq!(plain, turned);
    }

    #[test]
    fn documents_that_share_words_and_experts_tell_nothing() {
        // Every document prefers five of thirty words, and one of five experts, which it keeps for a while; words and experts are drawn apart.
        let beyond = (0..200).filter(|seed| {
            let mut rng = Seed(*seed).child("documents").rng();
            let (mut ids, mut choices) = (Vec::new(), Vec::new());
            for _ in 0..20 {
                let (word, expert) = (rng.random_range(0..30u32), rng.random_range(0..5));
                for _ in 0..20 {
                    ids.push(if rng.random_bool(0.6) {
                        (word + rng.random_range(0..5)) % 30
                    } else {
                        rng.random_range(0..30)
                    });
                    let drawn = if rng.random_bool(0.6) { expert } else { rng.random_range(0..5) };
                    let before = choices.last().copied().filter(|_| rng.random_bool(0.7));
                    choices.push(before.unwrap_or(drawn));
                }
            }
            let found = found(&layer(5, choices), &ids, *seed);
            found.iter().any(|tokens| tokens.p_value <= 0.01)
        });
        // Five tests at one in a hundred: 10 of 200 expected, 20 far beyond chance.
        let beyond = beyond.count();
        assert!(beyond < 20, "{beyond} of 200");
    }

    #[test]
    fn chance_looks_telling_as_often_as_it_should() {
        // Loads of 1/2 to 1/16; every expert of every seed is a test at one in twenty: 1,000 tests, 50 expected, 80 far beyond chance.
        let beyond: Vec<usize> = (0..200)
            .map(|seed| {
                let mut rng = Seed(seed).child("chance").rng();
                let ids: Vec<u32> = (0..400).map(|_| rng.random_range(0..30)).collect();
                let choose =
                    |rng: &mut rand_chacha::ChaCha8Rng| (0..4).find(|_| rng.random_bool(0.5)).unwrap_or(4);
                let choices = ids.iter().map(|_| choose(&mut rng)).collect();
                found(&layer(5, choices), &ids, seed).iter().filter(|tokens| tokens.p_value <= 0.05).count()
            })
            .collect();
        let all: usize = beyond.iter().sum();
        assert!((20..80).contains(&all), "{all} of 1000");
    }
}

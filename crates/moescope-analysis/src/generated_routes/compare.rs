//! How the routes of generated text differ from those of the text's own.

use std::collections::BTreeMap;

use rand::RngExt;

use super::METHOD;
use super::generate::{Layers, Routes, Spoken};
use crate::domain_shift::total_variation;
use crate::routing::{NullComparison, Permutations};
use crate::statistics::{Bootstrap, Resampling, Tail, bootstrap};
use crate::{AnalysisError, check};

/// One routed layer.
///
/// - **Unit and range:** see the fields.
/// - **Null:** what was generated and what the text has are exchanged, document by document: under it, the model speaks like the text.
/// - **Does not show:** which of the two is better routed, nor whether the words or the places of the words differ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LayerChange {
    pub(super) layer: usize,
    /// Half the sum over experts of the differences of their loads, a share of slots from 0 to 1.
    pub(super) distance: NullComparison,
    /// Entropy of the router at generated tokens less that at the text's own, nats.
    pub(super) entropy: Bootstrap,
    /// Share of experts that a token hands on to the next, less that of the text's own.
    pub(super) handed_on: Bootstrap,
    /// The expert whose share of slots grows most, that share in the text and in what is generated.
    pub(super) gained: (usize, f64, f64),
    /// Share of generated tokens whose set was the same when they were the last of the sequence and when others followed.
    pub(super) same: f64,
}

/// Sums over the compared tokens of one document in one layer, of the text's own and of what was generated.
#[derive(Clone, Debug)]
struct Sums {
    slots: [Vec<f64>; 2],
    entropy: [f64; 2],
    shared: [f64; 2],
    pairs: f64,
    tokens: f64,
}

/// Compares the routes in every layer.
///
/// # Errors
/// With too few documents, or without a token to compare.
pub(super) fn compare(
    spoken: &[Spoken],
    layers: &Layers,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Vec<LayerChange>, AnalysisError> {
    permutations.check(METHOD)?;
    let of = |layer: &(usize, usize, usize)| one_layer(spoken, *layer, permutations, resampling);
    layers.iter().map(of).collect()
}

fn one_layer(
    spoken: &[Spoken],
    (layer, experts, per_token): (usize, usize, usize),
    permutations: Permutations,
    resampling: Resampling,
) -> Result<LayerChange, AnalysisError> {
    let documents = by_document(spoken, layer, experts, per_token);
    check::documents(METHOD, documents.len())?;
    let observed = distance(&documents, |_| false);
    let draws = permutations.index(layer).draw(Vec::new, |exchanged: &mut Vec<bool>, rng| {
        exchanged.clear();
        exchanged.extend(documents.iter().map(|_| rng.random::<bool>()));
        distance(&documents, |document| exchanged[document])
    });
    let change = |part: fn(&Sums) -> [f64; 2], of: fn(&Sums) -> f64| {
        let statistic = |drawn: &[usize]| {
            let sum = |f: &dyn Fn(&Sums) -> f64| drawn.iter().map(|d| f(&documents[*d])).sum::<f64>();
            (sum(&|s| part(s)[1]) - sum(&|s| part(s)[0])) / sum(&|s| of(s))
        };
        bootstrap(documents.len(), statistic, resampling)
    };
    let (same, all) = spoken.iter().map(|s| s.same[&layer]).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    Ok(LayerChange {
        layer,
        distance: NullComparison::new(observed, &draws, Tail::Greater),
        entropy: change(|s| s.entropy, |s| s.tokens)?,
        handed_on: change(|s| s.shared, |s| s.pairs)?,
        gained: gained(&documents),
        same: same as f64 / all as f64,
    })
}

/// Sums of each document, in ascending order.
fn by_document(spoken: &[Spoken], layer: usize, experts: usize, per_token: usize) -> Vec<Sums> {
    let empty = || Sums {
        slots: [vec![0.0; experts], vec![0.0; experts]],
        entropy: [0.0; 2],
        shared: [0.0; 2],
        pairs: 0.0,
        tokens: 0.0,
    };
    let mut documents: BTreeMap<u32, Sums> = BTreeMap::new();
    for one in spoken {
        let sums = documents.entry(one.document).or_insert_with(empty);
        for (side, routes) in one.layers[&layer].iter().enumerate() {
            routes.sets.iter().for_each(|expert| sums.slots[side][*expert as usize] += 1.0);
            sums.entropy[side] += routes.entropy.iter().sum::<f64>();
            sums.shared[side] += handed_on(routes, per_token);
        }
        let tokens = one.layers[&layer][0].entropy.len();
        sums.tokens += tokens as f64;
        sums.pairs += tokens.saturating_sub(1) as f64;
    }
    documents.into_values().collect()
}

/// Share of experts that each token has in common with the next, summed.
fn handed_on(routes: &Routes, per_token: usize) -> f64 {
    let sets: Vec<&[u32]> = routes.sets.chunks_exact(per_token).collect();
    let shared = |pair: &[&[u32]]| pair[0].iter().filter(|expert| pair[1].contains(expert)).count();
    sets.windows(2).map(shared).sum::<usize>() as f64 / per_token as f64
}

/// Slots of each expert in the text and in what was generated, some documents the other way round.
///
/// - **Shape:** `[side][expert]`, text first; both sides have as many slots, since each generated token stands for one of the text.
fn loads(documents: &[Sums], exchanged: impl Fn(usize) -> bool) -> [Vec<f64>; 2] {
    let experts = documents[0].slots[0].len();
    let mut loads = [vec![0.0; experts], vec![0.0; experts]];
    for (document, sums) in documents.iter().enumerate() {
        let turned = usize::from(exchanged(document));
        for (side, slots) in sums.slots.iter().enumerate() {
            loads[side ^ turned].iter_mut().zip(slots).for_each(|(load, slots)| *load += slots);
        }
    }
    loads
}

/// Total variation between the loads.
///
/// - **Unit and range:** share of slots, 0 for equal loads, 1 where no expert is used on both sides.
/// - **Null:** above 0 for finite text, and larger for fewer tokens and more experts: hence the exchanged documents beside it.
fn distance(documents: &[Sums], exchanged: impl Fn(usize) -> bool) -> f64 {
    let [own, made] = loads(documents, exchanged);
    let slots: f64 = own.iter().sum();
    total_variation(&own, &made) / slots
}

fn gained(documents: &[Sums]) -> (usize, f64, f64) {
    let [own, made] = loads(documents, |_| false);
    let slots: f64 = own.iter().sum();
    let gain = |expert: &usize| made[*expert] - own[*expert];
    let most = (0..own.len()).max_by(|a, b| gain(a).total_cmp(&gain(b)).then(b.cmp(a))).unwrap_or(0);
    (most, own[most] / slots, made[most] / slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;

    const RESAMPLING: Resampling =
        Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };

    /// Documents of eight tokens with one of four experts each; `made` draws what is generated.
    fn planted(documents: u32, seed: u64, made: impl Fn(&mut rand_chacha::ChaCha8Rng) -> u32) -> Vec<Spoken> {
        let mut rng = Seed(seed).rng();
        let one = |document| {
            let own: Vec<u32> = (0..8).map(|_| rng.random_range(0..4)).collect();
            let other: Vec<u32> = (0..8).map(|_| made(&mut rng)).collect();
            let routes = |sets: Vec<u32>, entropy: f64| Routes { entropy: vec![entropy; sets.len()], sets };
            let layers = BTreeMap::from([(3, [routes(own, 1.0), routes(other, 1.5)])]);
            Spoken { document, prompt: BTreeMap::new(), layers, same: BTreeMap::from([(3, (7, 8))]) }
        };
        (0..documents).map(one).collect()
    }

    fn compared(spoken: &[Spoken], experts: usize, seed: u64) -> LayerChange {
        compare(spoken, &[(3, experts, 1)], Permutations::new(99, Seed(seed)), RESAMPLING).unwrap().remove(0)
    }

    #[test]
    fn changes_by_hand() {
        let routes = |sets: &[u32]| Routes { sets: sets.to_vec(), entropy: vec![0.5; sets.len()] };
        let one = |document, own: &[u32], made: &[u32]| Spoken {
            document,
            prompt: BTreeMap::new(),
            layers: BTreeMap::from([(0, [routes(own), routes(made)])]),
            same: BTreeMap::from([(0, (1, 2))]),
        };
        let spoken: Vec<Spoken> = (0..5).map(|d| one(d, &[0, 1, 0, 1], &[1, 1, 1, 1])).collect();
        let found =
            compare(&spoken, &[(0, 2, 1)], Permutations::new(9, Seed(1)), RESAMPLING).unwrap().remove(0);
        // Loads 1/2, 1/2 and 0, 1; no neighbour of the text hands on, every generated one does.
        assert_eq!((found.distance.observed, found.gained), (0.5, (1, 0.5, 1.0)));
        assert_eq!((found.handed_on.estimate, found.entropy.estimate, found.same), (1.0, 0.0, 0.5));
        assert!(compare(&spoken[..1], &[(0, 2, 1)], Permutations::new(9, Seed(1)), RESAMPLING).is_err());
    }

    #[test]
    fn a_planted_change_of_load_is_found() {
        let found = compared(&planted(30, 1, |rng| rng.random_range(0..3)), 4, 2);
        assert!(found.distance.p_value <= 0.01 && found.entropy.low > 0.0, "{found:?}");
        assert!((found.distance.observed - 0.25).abs() < 0.08, "{found:?}");
    }

    #[test]
    fn text_that_is_spoken_alike_is_called_different_at_the_stated_rate() {
        let alarms = (0..200).filter(|seed| {
            compared(&planted(12, 10 + seed, |rng| rng.random_range(0..4)), 4, *seed).distance.p_value <= 0.05
        });
        let alarms = alarms.count();
        // Of 200 draws at 5 % more than 18 come in one of a hundred runs.
        assert!(alarms <= 18, "{alarms}");
    }

    #[test]
    fn neither_names_of_experts_nor_the_order_of_documents_matter() {
        let spoken = planted(12, 5, |rng| rng.random_range(0..3));
        let mut other = spoken.clone();
        other.reverse();
        for one in &mut other {
            for routes in one.layers.get_mut(&3).unwrap() {
                routes.sets.iter_mut().for_each(|expert| *expert = 3 - *expert);
            }
        }
        let (before, after) = (compared(&spoken, 4, 1), compared(&other, 4, 1));
        assert!((before.distance.observed - after.distance.observed).abs() < 1e-12);
        assert_eq!(before.distance.p_value, after.distance.p_value);
        assert_eq!(before.gained.0, 3 - after.gained.0);
    }
}

//! Expert cache: how often an expert that a token needs is among those used most recently.

mod gives;

use moescope_base::{Column, Figure, FigureKind, Table};
use moescope_trace::{LayerRouting, RoutingTrace};
use rand::seq::SliceRandom;

use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
use crate::routing::{Permutations, tokens_by_document};
use crate::statistics::{Resampling, bootstrap};
use crate::{AnalysisError, check};

/// Hit rates of one layer for every size of the cache.
///
/// - **Unit and range:** share of routed slots whose expert is in the cache, from 0 to 1; 1 but for the first uses when all experts
///   fit.
/// - **Null:** the tokens of the layer in random order: hits that popularity alone gives. What is above comes from neighbours
///   going the same way.
/// - **Does not show:** time. A miss costs what loading an expert costs on a machine; prefetching by a guess of the next layer's
///   routes is not counted, nor are batches that share a load.
/// - **Source:** stack distances of Mattson et al. 1970; caches of experts as in Eliseev and Mazur 2023.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCache {
    /// Block.
    pub layer: usize,
    /// Hit rate at growing sizes: every size up to 16 experts, of more the powers of two, half of them and all.
    pub hit_rate: Vec<CacheHits>,
}

/// Hit rate at one size of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheHits {
    /// Experts of the layer that fit.
    pub room: usize,
    /// Share of slots found.
    pub rate: f64,
    /// Lower end of the 95 % interval over documents.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Mean of the null.
    pub null: f64,
    /// Documents.
    pub documents: usize,
}

/// Hit rates of least-recently-used caches, one for each layer, filled anew for each document.
///
/// All sizes come from one sweep: an expert is found by every cache that has room for as many experts as were used since its
/// last use, itself included. Within a token, experts are used in the order of their weights.
///
/// # Errors
/// If there are fewer than two documents, or no permutation or replicate is asked for.
pub fn expert_cache(
    trace: &RoutingTrace,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Vec<LayerCache>, AnalysisError> {
    permutations.check("expert cache")?;
    check::at_least("expert cache", "tokens", trace.tokens().len(), 1)?;
    let documents = tokens_by_document(&trace.tokens().documents);
    trace.layers().iter().map(|layer| of_layer(layer, &documents, permutations, resampling)).collect()
}

fn of_layer(
    layer: &LayerRouting,
    documents: &[Vec<u32>],
    permutations: Permutations,
    resampling: Resampling,
) -> Result<LayerCache, AnalysisError> {
    let rooms = rooms(layer.experts);
    let observed: Vec<Found> = documents.iter().map(|tokens| found(layer, tokens, &rooms)).collect();
    let everything: Vec<usize> = (0..documents.len()).collect();
    let sorted: Vec<u32> = (0..(layer.choices.len() / layer.per_token) as u32).collect();
    let draws = enough(permutations, sorted.len()).child("expert cache").index(layer.layer).draw(
        || sorted.clone(),
        |order, rng| {
            order.copy_from_slice(&sorted);
            order.shuffle(rng);
            let mut from = order.iter();
            let shuffled =
                documents.iter().map(|tokens| from.by_ref().take(tokens.len()).copied().collect::<Vec<_>>());
            let found: Vec<Found> = shuffled.map(|tokens| found(layer, &tokens, &rooms)).collect();
            (0..rooms.len()).map(|size| rate(&found, &everything, size)).collect::<Vec<f64>>()
        },
    );
    let hits = |(size, room): (usize, &usize)| -> Result<CacheHits, AnalysisError> {
        let estimate = bootstrap(observed.len(), |drawn| rate(&observed, drawn, size), resampling)?;
        let null = draws.iter().map(|draw| draw[size]).sum::<f64>() / draws.len() as f64;
        let (rate, low, high) = (estimate.estimate, estimate.low, estimate.high);
        Ok(CacheHits { room: *room, rate, low, high, null, documents: observed.len() })
    };
    Ok(LayerCache {
        layer: layer.layer,
        hit_rate: rooms.iter().enumerate().map(hits).collect::<Result<_, _>>()?,
    })
}

/// Tokens in random order after which the mean over draws is known well enough: two slots of each leave a standard error below 0.0004.
const TOKENS: usize = 1_000_000;
/// Draws, at least.
const DRAWS: usize = 4;

/// As many draws as make [`TOKENS`]: the null is a mean, which many draws of a long text would only tell to more digits than are shown.
fn enough(permutations: Permutations, tokens: usize) -> Permutations {
    let count = permutations.count.min(TOKENS.div_ceil(tokens).max(DRAWS));
    Permutations { count, ..permutations }
}

/// The sizes that are looked at, ascending.
pub(crate) fn rooms(experts: usize) -> Vec<usize> {
    let looked_at =
        |room: &usize| experts <= 16 || room.is_power_of_two() || *room == experts / 2 || *room == experts;
    (1..=experts).filter(looked_at).collect()
}

/// The slots of one document that each size of cache finds, and all of them.
struct Found {
    hits: Vec<u64>, // [size]
    slots: u64,
}

fn found(layer: &LayerRouting, tokens: &[u32], rooms: &[usize]) -> Found {
    let counts = distances(layer, tokens);
    let hits = rooms.iter().map(|room| counts[..*room].iter().sum()).collect();
    Found { hits, slots: counts.iter().sum() }
}

/// How many slots found their expert at each stack distance from 1 on; the last entry counts first uses: `[experts + 1]`.
pub(crate) fn distances(layer: &LayerRouting, tokens: &[u32]) -> Vec<u64> {
    let mut counts = vec![0; layer.experts + 1];
    let mut used = vec![0u32; layer.experts]; // when, counted from 1; 0 for never
    for (now, expert) in (1..).zip(tokens.iter().flat_map(|token| layer.chosen(*token as usize))) {
        let before = std::mem::replace(&mut used[*expert as usize], now);
        // One comparison for each expert, many at a time, instead of a list that is searched and moved.
        let since: u32 = used.iter().map(|last| u32::from(*last > before)).sum();
        let distance = if before == 0 { layer.experts } else { since as usize - 1 };
        counts[distance] += 1;
    }
    counts
}

/// Share of the slots of some documents that a cache of this size finds.
fn rate(found: &[Found], documents: &[usize], size: usize) -> f64 {
    let hits: u64 = documents.iter().map(|document| found[*document].hits[size]).sum();
    let slots: u64 = documents.iter().map(|document| found[*document].slots).sum();
    hits as f64 / slots as f64
}

/// One row for each layer and size.
///
/// # Errors
/// If the columns make no table.
pub fn table(layers: &[LayerCache]) -> Result<Table, AnalysisError> {
    let rows: Vec<(usize, CacheHits)> =
        layers.iter().flat_map(|layer| layer.hit_rate.iter().map(|hits| (layer.layer, *hits))).collect();
    let of = |pick: fn(&CacheHits) -> f64| rows.iter().map(|(_, hits)| pick(hits)).collect::<Vec<f64>>();
    let key = |pick: &dyn Fn(&(usize, CacheHits)) -> usize| rows.iter().map(|row| pick(row) as i64).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", key(&|row| row.0)),
        Column::integer_key(
            "room",
            "experts",
            "experts of the layer that fit into the cache",
            key(&|row| row.1.room),
        ),
        Column::estimate("hit_rate", "share of slots", "the expert is in the cache", of(|hits| hits.rate)),
    ];
    columns.extend(Column::interval(
        "hit_rate",
        "share of slots",
        "95 % bootstrap interval over documents",
        of(|hits| hits.low),
        of(|hits| hits.high),
    ));
    columns.push(Column::observations("hit_rate", "documents", key(&|row| row.1.documents)));
    columns.push(Column::null(
        "hit_rate",
        "share of slots",
        "tokens in random order, loads kept",
        of(|hits| hits.null),
    ));
    let method = "Least recently used, one cache for each layer, empty at the start of a document. Does not show time: what a miss \
                  costs depends on the machine.";
    Ok(Table::new("expert_cache", "How often the expert that is needed was used recently", method, columns)?)
}

/// The instrument `expert-cache`.
pub struct ExpertCache;

const STAYS: Reading = Reading {
    says: "experts are used again soon",
    table: "expert_cache",
    rows: &[("layer", "0"), ("room", "4")],
    value: "hit_rate",
    rule: Rule::Above(1.0),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::DomainRoutes, STAYS),
    Promise::is_silent(Property::TokenRoutes, STAYS),
    Promise::is_silent(Property::RandomRoutes, STAYS),
];

impl Instrument for ExpertCache {
    fn about(&self) -> About {
        About {
            name: "expert-cache",
            group: Group::Practice,
            question: "How many experts must stay in fast memory so that most tokens find theirs there?",
            null: "the tokens in random order: what the popularity of experts alone gives",
            does_not_show: "time, which depends on what a miss costs",
            source: "stack distances: Mattson et al. 1970; caches of experts: Eliseev and Mazur 2023",
            passes: "one for each batch",
            routed: true,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (permutations, resampling) = (material.permutations("cache"), material.resampling("cache"));
        let layers = expert_cache(material.routes()?, permutations, resampling)?;
        let figure = Figure {
            id: "expert_cache".into(),
            title: finding(&layers),
            caption: "Share of routed slots whose expert is in a cache of the given size; bands are 95 % intervals over documents.".into(),
            table: "expert_cache".into(),
            kind: FigureKind::Lines { x: "room".into(), y: "hit_rate".into(), series: Some("layer".into()), log2_x: false },
        };
        Ok(Finding { tables: vec![table(&layers)?], figures: vec![figure] })
    }
}

/// What half of the experts in the cache find, in words.
fn finding(layers: &[LayerCache]) -> String {
    let at_half = |layer: &LayerCache| {
        let experts = layer.hit_rate.last().map_or(0, |hits| hits.room);
        layer.hit_rate.iter().find(|hits| hits.room >= experts / 2).copied()
    };
    let half: Vec<CacheHits> = layers.iter().filter_map(at_half).collect();
    let mean = |pick: fn(&CacheHits) -> f64| half.iter().map(pick).sum::<f64>() / half.len().max(1) as f64;
    format!(
        "With half of the experts at hand, {:.0} % of the slots find theirs; popularity alone gives {:.0} %",
        100.0 * mean(|hits| hits.rate),
        100.0 * mean(|hits| hits.null)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use crate::statistics::BootstrapMethod;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const RESAMPLING: Resampling =
        Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };

    fn run(documents: Vec<u32>, experts: usize, choices: Vec<u32>) -> Vec<CacheHits> {
        let n = documents.len();
        let trace =
            planted::trace(planted::tokens(vec![0; n], vec![0; n], documents), experts, 1, vec![choices]);
        expert_cache(&trace, Permutations::new(19, Seed(1)), RESAMPLING).unwrap().remove(0).hit_rate
    }

    #[test]
    fn a_long_text_needs_few_draws() {
        let draws = |tokens| enough(Permutations::new(99, Seed(1)), tokens).count;
        assert_eq!([1_000, 50_000, 1_000_000, 9_000_000].map(draws), [99, 20, 4, 4]);
        assert_eq!(enough(Permutations::new(3, Seed(1)), 10).count, 3);
    }

    #[test]
    fn a_hand_worked_sequence() {
        // a b a a | b b: distances first, first, 2, 1 | first, 1. Room 1 finds two of six slots, room 2 three.
        let hits = run(vec![0, 0, 0, 0, 1, 1], 3, vec![0, 1, 0, 0, 1, 1]);
        assert!((hits[0].rate - 2.0 / 6.0).abs() < 1e-12);
        assert!((hits[1].rate - 3.0 / 6.0).abs() < 1e-12);
        assert!((hits[2].rate - 3.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn standing_routes_are_found_and_random_ones_are_not_above_their_null() {
        // Every document keeps to one expert of eight for long stretches.
        let (documents, length) = (20, 40);
        let of = |t: usize| (t / length) as u32;
        let choices = (0..documents * length).map(|t| ((t / 10) * 5 % 8) as u32).collect();
        let hits = run((0..documents * length).map(of).collect(), 8, choices);
        assert!(hits[0].low > 0.85 && hits[0].null < 0.2, "{:?}", hits[0]);

        // Routes at random: the null lies outside the interval about as seldom as it says.
        let outside = |seed: &u64| {
            let mut rng = Seed(*seed).rng();
            let weight = |e: u32| 1.0 / f64::from(e + 1);
            let choices = planted::random_sets(documents * length, 8, 1, weight, &mut rng);
            let hit = run((0..documents * length).map(of).collect(), 8, choices)[2];
            hit.low > hit.null || hit.high < hit.null
        };
        // Binomial with 200 draws of 0.05, for percentiles over twenty documents of 0.07: above 25 in less than one of a hundred.
        let outside = (0..200).filter(outside).count();
        assert!(outside <= 25, "{outside} of 200");
    }

    proptest! {
        #[test]
        fn a_simulated_cache_finds_as_many(choices in prop::collection::vec(0u32..6, 12), room in 1usize..6) {
            let documents: Vec<u32> = (0..12).map(|t| t / 6).collect();
            let hits = run(documents, 6, choices.clone());
            let mut found = 0;
            for document in choices.chunks(6) {
                let mut cache = VecDeque::new();
                for expert in document {
                    if let Some(place) = cache.iter().position(|e| e == expert) {
                        found += 1;
                        cache.remove(place);
                    } else if cache.len() == room {
                        cache.pop_front();
                    }
                    cache.push_back(*expert);
                }
            }
            prop_assert!((hits[room - 1].rate - f64::from(found) / 12.0).abs() < 1e-12);
        }

        #[test]
        fn names_of_experts_do_not_matter(seed in any::<u64>()) {
            let trace = {
                let mut rng = Seed(2).rng();
                let text = planted::text(4, 10, 10, &mut rng);
                planted::trace(text, 5, 2, vec![planted::random_sets(40, 5, 2, |_| 1.0, &mut rng)])
            };
            let of = |trace: &RoutingTrace| expert_cache(trace, Permutations::new(9, Seed(1)), RESAMPLING).unwrap();
            prop_assert_eq!(of(&trace), of(&planted::renamed(&trace, seed)));
        }
    }
}

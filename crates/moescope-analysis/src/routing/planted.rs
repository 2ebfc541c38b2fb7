//! Routes whose truth is known, for tests.

use moescope_base::Seed;
use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Tokens with the given ids, domains and documents; positions count within each document.
pub(crate) fn tokens(ids: Vec<u32>, domains: Vec<u16>, documents: Vec<u32>) -> TokenTable {
    let position = |t: usize| documents[..t].iter().filter(|d| **d == documents[t]).count() as u32;
    TokenTable {
        next_ids: (0..ids.len()).map(|t| ids.get(t + 1).copied().unwrap_or(0)).collect(),
        positions: (0..ids.len()).map(position).collect(),
        classes: ids.iter().map(|id| (id % 2) as u16).collect(),
        domain_names: (0..=domains.iter().copied().max().unwrap_or(0))
            .map(|d| format!("domain {d}"))
            .collect(),
        class_names: vec!["even".into(), "odd".into()],
        ids,
        domains,
        documents,
    }
}

/// Two of eight experts for each token: the first half of the text chooses among experts 0 to 3, always as one of two committees of neighbours, the second half
/// among the others.
pub(crate) fn committees(tokens: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let committee = |token: usize| {
        let half = if token < tokens / 2 { 0 } else { 4 };
        let pair = half + 2 * rng.random_range(0..2u32);
        [pair, pair + 1]
    };
    (0..tokens).flat_map(committee).collect()
}

/// Documents of equal length, each in the domain of its parity, with ids drawn from a vocabulary.
pub(crate) fn text(documents: usize, length: usize, vocabulary: u32, rng: &mut ChaCha8Rng) -> TokenTable {
    let document = |t: usize| (t / length) as u32;
    let n = documents * length;
    let ids = (0..n).map(|_| rng.random_range(0..vocabulary)).collect();
    tokens(ids, (0..n).map(|t| (document(t) % 2) as u16).collect(), (0..n).map(document).collect())
}

/// A layer with these routes, and scores that mean nothing.
pub(crate) fn layer(layer: usize, experts: usize, per_token: usize, choices: Vec<u32>) -> LayerRouting {
    let tokens = choices.len() / per_token;
    let weights = vec![1.0 / per_token as f32; choices.len()];
    let (entropy, margin, relative_margin) = (vec![0.5; tokens], vec![0.1; tokens], vec![0.02; tokens]);
    LayerRouting { layer, experts, per_token, choices, weights, entropy, margin, relative_margin }
}

/// A trace with one layer for each list of routes.
pub(crate) fn trace(
    tokens: TokenTable,
    experts: usize,
    per_token: usize,
    routes: Vec<Vec<u32>>,
) -> RoutingTrace {
    let layers = routes.into_iter().enumerate().map(|(l, choices)| layer(l, experts, per_token, choices));
    RoutingTrace::new(tokens, layers.collect()).unwrap()
}

/// Sets drawn without replacement, expert `e` about in proportion to `weight(e)`.
pub(crate) fn random_sets(
    tokens: usize,
    experts: u32,
    per_token: usize,
    weight: impl Fn(u32) -> f64,
    rng: &mut ChaCha8Rng,
) -> Vec<u32> {
    let mut sets = Vec::with_capacity(tokens * per_token);
    for _ in 0..tokens {
        let key = |e: u32, rng: &mut ChaCha8Rng| rng.random::<f64>().ln() / weight(e);
        let mut keyed: Vec<(f64, u32)> = (0..experts).map(|e| (key(e, rng), e)).collect();
        keyed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        sets.extend(keyed.iter().take(per_token).map(|(_, e)| *e));
    }
    sets
}

/// The same trace with experts renamed at random in every layer.
pub(crate) fn renamed(trace: &RoutingTrace, seed: u64) -> RoutingTrace {
    let layers = trace.layers().iter().map(|l| {
        let mut names: Vec<u32> = (0..l.experts as u32).collect();
        names.shuffle(&mut Seed(seed).index(l.layer as u64).rng());
        let choices = l.choices.iter().map(|e| names[*e as usize]).collect();
        LayerRouting { choices, ..l.clone() }
    });
    RoutingTrace::new(trace.tokens().clone(), layers.collect()).unwrap()
}

/// The same trace with its tokens in another order.
pub(crate) fn reordered(trace: &RoutingTrace, seed: u64) -> RoutingTrace {
    let mut order: Vec<usize> = (0..trace.tokens().len()).collect();
    order.shuffle(&mut Seed(seed).rng());
    let t = trace.tokens();
    let tokens = TokenTable {
        ids: order.iter().map(|i| t.ids[*i]).collect(),
        next_ids: order.iter().map(|i| t.next_ids[*i]).collect(),
        domains: order.iter().map(|i| t.domains[*i]).collect(),
        documents: order.iter().map(|i| t.documents[*i]).collect(),
        positions: order.iter().map(|i| t.positions[*i]).collect(),
        classes: order.iter().map(|i| t.classes[*i]).collect(),
        ..t.clone()
    };
    let layers = trace.layers().iter().map(|l| {
        let choices = order.iter().flat_map(|i| l.chosen(*i).to_vec()).collect();
        layer(l.layer, l.experts, l.per_token, choices)
    });
    RoutingTrace::new(tokens, layers.collect()).unwrap()
}

/// Share of seeds at which a test of level 5 % rejects.
pub(crate) fn rejection_rate(seeds: u64, p_value: impl Fn(u64) -> f64) -> f64 {
    (0..seeds).filter(|seed| p_value(*seed) <= 0.05).count() as f64 / seeds as f64
}

/// The largest rejection rate over 200 seeds that a valid test of level 5 % exceeds about once in a thousand times.
pub(crate) const HIGHEST_RATE: f64 = 0.10;

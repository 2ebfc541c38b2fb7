//! The barrier between two experts of a layer.

use moescope_base::{Seed, Subject};
use rand::seq::SliceRandom;

use super::layer::{Layer, layers, parameters};
use super::{METHOD, RANDOM_PAIRS};
use crate::document_loss::Judged;
use crate::expert_weights::ExpertWeights;
use crate::statistics::{Bootstrap, Resampling, bootstrap, mean};
use crate::{AnalysisError, Sample};

/// Shares of the second expert at which the loss is measured; the first and the last are the ends.
pub const ALPHAS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Place of one half in [`ALPHAS`].
const HALF: usize = 2;

/// How two experts of a layer were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairKind {
    /// The pair with the largest cosine of weights, neurons matched.
    Closest,
    /// A pair drawn at random.
    Random,
}

impl PairKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            PairKind::Closest => "most alike",
            PairKind::Random => "random",
        }
    }
}

/// The barrier between two experts of a layer: how far the loss on the straight line between them rises above that of its ends.
///
/// Both experts are replaced by `(1 − α) E_i + α E_j`, so that at the ends both are one of them. The excess at `α` is the loss there
/// minus `(1 − α)` times that at 0 and `α` times that at 1; the barrier is the largest excess over the inner values of [`ALPHAS`].
/// `matched` has the neurons of the second expert in the order that matches those of the first, which changes nothing at the ends.
///
/// A barrier says how the ends are joined, not what they are worth: where two experts differ, each end is bad for the tokens of one of
/// them, and the middle may be no worse. `merged` therefore is the loss with both experts half and half, minus that of the model as it is.
///
/// - **Unit and range:** nats per predicted token that chooses one of the two. Barriers are 0 and below where the line has none. (Entezari
///   et al. count the ends, so that theirs is never below 0.) Being the largest of three, it is a little too large by chance.
/// - **Null:** the mean over random pairs of the layer, by the same way.
/// - **Does not show:** a curved way around the barrier, nor what training after merging would restore. Experts that nobody chooses are
///   left out.
/// - **Source:** barrier: Entezari et al. 2022 (arXiv 2110.06296) after Frankle et al. 2020; matching by assignment of weights:
///   Ainsworth et al. 2023 (arXiv 2209.04836).
#[derive(Clone, Debug, PartialEq)]
pub struct Barrier {
    /// Block.
    pub layer: usize,
    /// The first expert.
    pub first: usize,
    /// The second.
    pub second: usize,
    /// How they were chosen.
    pub kind: PairKind,
    /// Cosine of their weights, neurons matched.
    pub cosine: f64,
    /// Predicted tokens that choose one of them.
    pub tokens: f64,
    /// Barrier with the neurons as they stand.
    pub plain: Bootstrap,
    /// Barrier with the neurons matched.
    pub matched: Bootstrap,
    /// Excess at each of [`ALPHAS`], neurons as they stand.
    pub plain_path: Vec<Bootstrap>,
    /// The same with the neurons matched.
    pub matched_path: Vec<Bootstrap>,
    /// Cost of both experts being half and half, neurons as they stand.
    pub merged_plain: Bootstrap,
    /// The same with the neurons matched.
    pub merged: Bootstrap,
    /// Mean of `plain`, `matched`, `merged_plain` and `merged` over the random pairs of the layer.
    pub null: [f64; 4],
}

/// Measures the barrier of the most alike and of some random pairs of each of some layers.
///
/// Eight readings of the text for each pair, besides one of the model as it is and those that find which
/// experts are chosen. The most alike pair is chosen by weights, not by the loss, so that its barrier is not
/// small for having been picked as the smallest.
///
/// # Errors
/// If no layer has two experts that are chosen, there are fewer than four documents, or the subject cannot answer or run with other
/// weights.
pub fn barriers(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<Barrier>, AnalysisError> {
    let judged = Judged::new(METHOD, samples)?;
    let free = judged.losses(subject, &[])?;
    let mut found = Vec::new();
    for layer in layers(subject, &judged, seed)? {
        let mut own = Vec::new();
        for (kind, pair) in pairs(&layer, seed.child("pairs").index(layer.number as u64)) {
            own.push(barrier(subject, (&judged, &free), &layer, (kind, pair), resampling)?);
        }
        let random = |of: fn(&Barrier) -> f64| {
            let random = own.iter().filter(|pair| pair.kind == PairKind::Random);
            // NaN where the layer has one pair alone, which tables show as empty.
            mean(&random.map(of).collect::<Vec<f64>>())
        };
        let null = [
            random(|pair| pair.plain.estimate),
            random(|pair| pair.matched.estimate),
            random(|pair| pair.merged_plain.estimate),
            random(|pair| pair.merged.estimate),
        ];
        own.iter_mut().for_each(|pair| pair.null = null);
        found.append(&mut own);
    }
    Ok(found)
}

/// The most alike pair of candidates, and some of the others; places among the candidates.
fn pairs(layer: &Layer, seed: Seed) -> Vec<(PairKind, (usize, usize))> {
    let count = layer.candidates.len();
    let mut all: Vec<(usize, usize)> =
        (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second))).collect();
    let cosine = |pair: &(usize, usize)| layer.cosines[pair.0][pair.1];
    all.sort_by(|a, b| cosine(b).total_cmp(&cosine(a)).then(a.cmp(b)));
    let closest = all.remove(0);
    all.shuffle(&mut seed.rng());
    all.truncate(RANDOM_PAIRS);
    let random = all.into_iter().map(|pair| (PairKind::Random, pair));
    std::iter::once((PairKind::Closest, closest)).chain(random).collect()
}

/// The barrier between two candidates, and what they cost once merged.
///
/// Eight passes of the text: five with the neurons as they stand, three with them matched, because the ends are the same.
fn barrier(
    subject: &mut dyn Subject,
    (judged, free): (&Judged<'_>, &[f64]),
    layer: &Layer,
    (kind, places): (PairKind, (usize, usize)),
    resampling: Resampling,
) -> Result<Barrier, AnalysisError> {
    let (first, second) = (layer.candidates[places.0], layer.candidates[places.1]);
    let weights = parameters(subject)?;
    let own = layer.aligned(weights, first, None)?;
    let plain = layer.aligned(weights, second, None)?;
    let matched = layer.aligned(weights, second, Some(first))?;
    let mut along = |other: &ExpertWeights, alphas: &[f64]| {
        alphas
            .iter()
            .map(|alpha| on_the_line(subject, judged, layer, [first, second], (&own, other), *alpha))
            .collect::<Result<Vec<Vec<f64>>, AnalysisError>>()
    };
    // The ends are the same whatever the order of the neurons.
    let plain = along(&plain, &ALPHAS)?;
    let inner = along(&matched, &ALPHAS[1..ALPHAS.len() - 1])?;
    let matched = [&plain[..1], &inner[..], &plain[plain.len() - 1..]].concat();
    let tokens = layer.tokens_of(&[first, second], judged.tokens.len());
    let path = |losses: &[Vec<f64>]| {
        (0..ALPHAS.len())
            .map(|at| over(&tokens, |drawn| excess(losses, &tokens, at, drawn), resampling))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Barrier {
        layer: layer.number,
        first,
        second,
        kind,
        cosine: layer.cosines[places.0][places.1],
        tokens: tokens.iter().sum(),
        plain: over(&tokens, |drawn| highest(&plain, &tokens, drawn), resampling)?,
        matched: over(&tokens, |drawn| highest(&matched, &tokens, drawn), resampling)?,
        merged_plain: over(&tokens, |drawn| rise(&plain[HALF], free, &tokens, drawn), resampling)?,
        merged: over(&tokens, |drawn| rise(&matched[HALF], free, &tokens, drawn), resampling)?,
        plain_path: path(&plain)?,
        matched_path: path(&matched)?,
        null: [f64::NAN; 4],
    })
}

/// Loss of each document with both experts at this place of the line between two.
fn on_the_line(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    layer: &Layer,
    experts: [usize; 2],
    (own, other): (&ExpertWeights, &ExpertWeights),
    alpha: f64,
) -> Result<Vec<f64>, AnalysisError> {
    let between = ExpertWeights::mean(&[(1.0 - alpha, own), (alpha, other)])?;
    let weights = parameters(subject)?;
    let placed = experts.iter().try_for_each(|expert| between.put(weights, layer.number, *expert));
    let losses = placed.and_then(|()| judged.losses(subject, &[]));
    parameters(subject)?.restore()?;
    losses
}

/// A statistic of documents with its interval.
fn over(
    tokens: &[f64],
    of: impl Fn(&[usize]) -> f64 + Sync,
    resampling: Resampling,
) -> Result<Bootstrap, AnalysisError> {
    bootstrap(tokens.len(), of, resampling)
}

/// Loss at a place of the line minus that on the straight line between its ends, for each token that chooses one of the two.
///
/// An example: losses of 2 and 4 at the ends and of 3.5 in the middle, for one token, have an excess of 3.5 -
/// 3 = 0.5 there.
pub(super) fn excess(losses: &[Vec<f64>], tokens: &[f64], at: usize, documents: &[usize]) -> f64 {
    let sum = |of: &[f64]| documents.iter().map(|document| of[*document]).sum::<f64>();
    let (alpha, last) = (ALPHAS[at], losses.len() - 1);
    let ends = (1.0 - alpha) * sum(&losses[0]) + alpha * sum(&losses[last]);
    (sum(&losses[at]) - ends) / sum(tokens)
}

/// The largest excess over the inner places.
pub(super) fn highest(losses: &[Vec<f64>], tokens: &[f64], documents: &[usize]) -> f64 {
    (1..losses.len() - 1).map(|at| excess(losses, tokens, at, documents)).fold(f64::NEG_INFINITY, f64::max)
}

/// Loss minus that of the model as it is, for each token that chooses one of the two.
fn rise(losses: &[f64], free: &[f64], tokens: &[f64], documents: &[usize]) -> f64 {
    let sum = |of: &[f64]| documents.iter().map(|document| of[*document]).sum::<f64>();
    (sum(losses) - sum(free)) / sum(tokens)
}

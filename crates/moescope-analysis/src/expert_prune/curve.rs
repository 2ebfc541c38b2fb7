//! Ever more experts of every layer taken out.

use moescope_base::{Edit, RouteEdit, Seed, Subject, TokenSelection};
use rand::seq::SliceRandom;

use super::scores::{Layers, Scores, ban};
use super::{Criterion, METHOD, RANDOM, SHARES};
use crate::document_loss::{Judged, minus};
use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample};

/// What becomes of the tokens of an expert that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The router chooses among those that are left, and weights follow: what deleting its rows does.
    Rerouted,
    /// Choice and weights stay as they were, and what the expert had added is missing: nothing is renormalised.
    Missing,
}

impl Way {
    /// Both.
    pub const ALL: [Way; 2] = [Way::Rerouted, Way::Missing];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Rerouted => "rerouted",
            Way::Missing => "missing",
        }
    }

    /// The edit that takes experts of a layer out.
    pub(super) fn edit(self, layer: usize, experts: &[usize]) -> Edit {
        match self {
            Way::Rerouted => ban(layer, experts),
            Way::Missing => {
                let experts = experts.iter().map(|expert| *expert as u32).collect();
                let tokens = TokenSelection::All;
                let change = RouteEdit::SetWeight { experts, weight: 0.0, renormalise: false, tokens };
                Edit::Route { layer: layer as u32, change }
            }
        }
    }
}

/// The same share of the experts of every routed layer taken out, those of least worth first.
///
/// Worth is decided on half of the documents, the loss is that of the others.
///
/// - **Unit and range:** nats per token of next-token loss, above 0 where the model is worse without the experts.
/// - **Null:** `random`, the mean over [`RANDOM`] removals of as many random experts of each layer; `saved` is what the criterion spares
///   beyond them, 0 where it is no better than chance. Its interval is that of documents, for the random removals that were drawn.
/// - **Does not show:** what training after pruning would restore; a better order of a share that differs by layer; what generated text
///   would lose, since only given text is predicted.
/// - **Source:** use: Chen et al. 2022 (arXiv 2206.00277); soft counts: Muzio et al. 2024 (arXiv 2404.05089); answers: Lasby et al. 2025
///   (arXiv 2510.13999); loss: as the error of Lu et al. 2024 (arXiv 2402.14800), by single knock-outs.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// What becomes of tokens.
    pub way: Way,
    /// By what experts go.
    pub criterion: Criterion,
    /// Share of the experts of all routed layers that are gone.
    pub share: f64,
    /// Experts that are gone.
    pub removed: usize,
    /// Change of the loss.
    pub loss: Bootstrap,
    /// Mean change with random experts gone.
    pub random: f64,
    /// Loss with random experts gone minus that with these gone.
    pub saved: Bootstrap,
}

/// Takes ever more experts out, by every criterion and both ways.
///
/// For each share and way the text is read once for each criterion and once for each random draw. Experts
/// that go are the same for both ways, so what the ways do to tokens is all that differs between them.
///
/// # Errors
/// If no routed layer leaves a choice, there are fewer than eight documents, or the subject cannot answer.
pub fn pruning_curves(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<Pruned>, AnalysisError> {
    let judged = Judged::new(METHOD, samples)?;
    let (deciding, judging) = judged.halves()?;
    let layers = Layers::of(subject)?;
    let free = judged.losses(subject, &[])?;
    let scores = layers.scores(subject, &judged, &free, &deciding)?;
    let drawn: Vec<Scores> = (0..RANDOM).map(|draw| random(&layers, seed.index(draw as u64))).collect();
    let all: usize = layers.sizes.iter().map(|size| size.1).sum();
    let (mut found, mut before) = (Vec::new(), 0);
    for share in SHARES {
        let counts: Vec<usize> = layers.sizes.iter().map(|size| count(*size, share)).collect();
        let removed: usize = counts.iter().sum();
        // Small layers have fewer different shares.
        if std::mem::replace(&mut before, removed) == removed {
            continue;
        }
        for way in Way::ALL {
            let mut without = |scores: &Scores| {
                let losses = judged.losses(subject, &edits(&layers, scores, &counts, way))?;
                Ok::<_, AnalysisError>(minus(&losses, &free))
            };
            let mut random = vec![0.0; free.len()];
            for scores in &drawn {
                let change = without(scores)?;
                random.iter_mut().zip(change).for_each(|(sum, change)| *sum += change / RANDOM as f64);
            }
            for (criterion, scores) in &scores {
                let own = without(scores)?;
                found.push(Pruned {
                    way,
                    criterion: *criterion,
                    share: removed as f64 / all as f64,
                    removed,
                    loss: judged.mean(&own, &judging, resampling)?,
                    random: judged.estimate(&random, &judging),
                    saved: judged.mean(&minus(&random, &own), &judging, resampling)?,
                });
            }
        }
    }
    Ok(found)
}

/// Experts of a layer that go: as many as a token chooses stay at least.
///
/// An example: of eight experts, two for each token, a share of 0.9 would be seven, and six go.
fn count((_, experts, per_token): (usize, usize, usize), share: f64) -> usize {
    ((share * experts as f64).round() as usize).min(experts - per_token)
}

/// The edits that take the experts of least worth out of every layer.
fn edits(layers: &Layers, scores: &Scores, counts: &[usize], way: Way) -> Vec<Edit> {
    let mut found = Vec::new();
    for ((size, scores), count) in layers.sizes.iter().zip(scores).zip(counts) {
        if *count > 0 {
            found.push(way.edit(size.0, &lowest(scores, *count)));
        }
    }
    found
}

/// Places of the lowest scores, ascending; of equal ones, the first.
pub(super) fn lowest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Scores that say nothing.
///
/// Each expert gets its rank in a random order, so that no two are equal and a larger share takes out what a
/// smaller one did, and more.
fn random(layers: &Layers, seed: Seed) -> Scores {
    let of = |size: &(usize, usize, usize)| {
        let mut ranks: Vec<f64> = (0..size.1).map(|rank| rank as f64).collect();
        ranks.shuffle(&mut seed.child("random experts").index(size.0 as u64).rng());
        ranks
    };
    layers.sizes.iter().map(of).collect()
}

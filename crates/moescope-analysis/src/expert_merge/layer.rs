//! The experts of one layer that may be merged: how alike they are, how often they are chosen, and their means.
//!
//! Experts that no token of the text chooses are no candidates: nothing that is done to them could be seen.

use std::collections::BTreeMap;

use moescope_base::{FeedForwardShape, HookPoint, Parameters, Seed, Site, Subject};
use rand::seq::SliceRandom;

use super::{CANDIDATES, LAYERS, METHOD, SAMPLED};
use crate::document_loss::Judged;
use crate::expert_neurons::Neurons;
use crate::expert_weights::ExpertWeights;
use crate::{AnalysisError, check};

/// Experts of every predicted token, with the place of its document.
pub(super) type Chosen = Vec<(usize, Vec<usize>)>;

/// Experts of one layer.
pub(super) struct Layer {
    /// Block.
    pub(super) number: usize,
    /// Experts that may be merged, ascending: those that some token chooses, or as many of them as can be afforded.
    pub(super) candidates: Vec<usize>,
    /// Cosine of two candidates with their neurons matched: `[candidate][candidate]`.
    pub(super) cosines: Vec<Vec<f64>>,
    /// Chosen experts of every predicted token, with the place of its document.
    pub(super) chosen: Chosen,
    seed: Seed,
}

/// Layers of two experts or more that are used, evenly spaced where there are many.
///
/// Routes are observed in one pass; likeness is read from weights. All layers have seeds of their own, so
/// that a layer draws the same candidates whichever others are looked at.
pub(super) fn layers(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    seed: Seed,
) -> Result<Vec<Layer>, AnalysisError> {
    let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
        FeedForwardShape::Routed { experts: 2.., .. } => Some(layer),
        _ => None,
    };
    let all: Vec<usize> = subject.shape().feed_forward.iter().enumerate().filter_map(of).collect();
    check::at_least(METHOD, "layers of two experts or more", all.len(), 1)?;
    let count = all.len().min(LAYERS);
    let numbers: Vec<usize> = (0..count).map(|at| all[at * all.len() / count]).collect();
    let mut chosen = chosen(subject, judged, &numbers)?;
    let mut layers = Vec::new();
    for number in numbers {
        let seed = seed.index(number as u64);
        let chosen = chosen.remove(&number).unwrap_or_default();
        let mut candidates: Vec<usize> = chosen.iter().flat_map(|(_, experts)| experts.clone()).collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.shuffle(&mut seed.child("candidates").rng());
        candidates.truncate(CANDIDATES);
        candidates.sort_unstable();
        if candidates.len() > 1 {
            let cosines = cosines(parameters(subject)?, number, &candidates, seed)?;
            layers.push(Layer { number, candidates, cosines, chosen, seed });
        }
    }
    check::at_least(METHOD, "layers of which two experts are chosen", layers.len(), 1)?;
    Ok(layers)
}

/// The weights of a subject.
pub(super) fn parameters(subject: &mut dyn Subject) -> Result<&mut dyn Parameters, AnalysisError> {
    let what = "the subject does not show its weights";
    subject.parameters().ok_or(AnalysisError::NoWeights {
        method: METHOD,
        what,
        advice: "open the model from its files",
    })
}

/// Experts of every predicted token in some layers, in one pass.
fn chosen(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    layers: &[usize],
) -> Result<BTreeMap<usize, Chosen>, AnalysisError> {
    let points: Vec<HookPoint> =
        layers.iter().map(|layer| HookPoint::block(Site::RouterIndices, *layer)).collect();
    let mut found: BTreeMap<usize, Chosen> = BTreeMap::new();
    let mut missing = None;
    judged.pass(subject, &points, &[], &mut |seen, rows| {
        for (layer, point) in layers.iter().zip(&points) {
            let value = seen.values.get(point).and_then(|value| Some((value.columns(), value.integer()?)));
            let Some((per_token, experts)) = value else {
                missing = Some(*point);
                continue;
            };
            let own = rows.iter().map(|(row, place)| {
                let slots = &experts[row * per_token..(row + 1) * per_token];
                (*place, slots.iter().map(|expert| *expert as usize).collect())
            });
            found.entry(*layer).or_default().extend(own);
        }
    })?;
    missing.map_or(Ok(found), |point| Err(AnalysisError::NotRecorded { point }))
}

/// Cosines of all pairs of candidates, neurons matched; two experts are in memory at a time.
///
/// Of wide experts some neurons look for a partner among all of the other; the same neurons for all pairs of a layer.
fn cosines(
    parameters: &mut dyn Parameters,
    layer: usize,
    candidates: &[usize],
    seed: Seed,
) -> Result<Vec<Vec<f64>>, AnalysisError> {
    let mut cosines = vec![vec![1.0; candidates.len()]; candidates.len()];
    for first in 0..candidates.len() {
        let own = Neurons::read(parameters, layer, candidates[first])?;
        let mut sample: Vec<usize> = (0..own.count()).collect();
        sample.shuffle(&mut seed.child("neurons").rng());
        sample.truncate(SAMPLED);
        sample.sort_unstable();
        for second in first + 1..candidates.len() {
            let cosine = own.matched(&Neurons::read(parameters, layer, candidates[second])?, &sample);
            check::finite(METHOD, &[cosine])?;
            (cosines[first][second], cosines[second][first]) = (cosine, cosine);
        }
    }
    Ok(cosines)
}

impl Layer {
    /// Predicted tokens of each document that choose one of these experts: `[document]`.
    ///
    /// Tokens that choose several of them count once.
    pub(super) fn tokens_of(&self, experts: &[usize], documents: usize) -> Vec<f64> {
        let mut tokens = vec![0.0; documents];
        for (place, chosen) in &self.chosen {
            if chosen.iter().any(|expert| experts.contains(expert)) {
                tokens[*place] += 1.0;
            }
        }
        tokens
    }

    /// How often some documents choose an expert.
    pub(super) fn uses(&self, expert: usize, documents: &[usize]) -> f64 {
        let here = self.chosen.iter().filter(|(place, _)| documents.binary_search(place).is_ok());
        here.flat_map(|(_, chosen)| chosen).filter(|chosen| **chosen == expert).count() as f64
    }

    /// Weights of an expert, its neurons in the order in which they match those of another where that is wanted.
    pub(super) fn aligned(
        &self,
        parameters: &mut dyn Parameters,
        expert: usize,
        to: Option<usize>,
    ) -> Result<ExpertWeights, AnalysisError> {
        let own = ExpertWeights::read(parameters, self.number, expert)?;
        let Some(anchor) = to else { return Ok(own) };
        let [anchor, neurons] = [anchor, expert].map(|expert| Neurons::read(parameters, self.number, expert));
        let order = anchor?.partners(&neurons?, self.seed.child("matching").index(expert as u64))?;
        own.reordered(&order)
    }
}

//! Clusters of the vectors that routers read.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use moescope_trace::{RoutingTrace, TokenTable};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::Halves;
use crate::AnalysisError;
use crate::clustering::{Clusters, k_means};
use crate::matrix::Features;

/// Vectors that the clusters of a layer are learned from, at most.
const SAMPLE: usize = 2_000;

/// Clusters for each expert of a layer.
const FOR_EACH_EXPERT: usize = 4;

/// Cluster of every token in each routed layer.
#[derive(Clone, Debug, PartialEq)]
pub struct InputClusters {
    /// In the order of the trace's layers, then of its tokens: `of[layer][token]`; none where the layer's router shows no input.
    pub of: Vec<Option<Vec<u32>>>,
}

/// Sorts what the routers read into clusters, four for each expert of a layer.
///
/// Centres are learned by k-means from at most 2,000 tokens of the documents that teach [`predictability`](super::predictability) with
/// the same seed, in one pass; another pass sends every token to its nearest centre, so that no vector is kept. Distances are
/// those of the vectors as they are: a router that reads directions of little variance is hidden from k-means.
///
/// # Errors
/// If the subject cannot answer, or as [`predictability`](super::predictability).
pub fn input_clusters(
    subject: &mut dyn Subject,
    batches: &[(Tokens, TokenTable)],
    trace: &RoutingTrace,
    seed: Seed,
) -> Result<InputClusters, AnalysisError> {
    let halves = Halves::new(trace.tokens(), seed)?;
    let teaching: Vec<usize> = (0..trace.tokens().len()).filter(|token| halves.teaches(*token)).collect();
    let sample = sample(&teaching, SAMPLE, seed.child("vectors"));
    let mut vectors: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    each_batch(subject, batches, trace, |layer, first, features| {
        let here = sample.iter().filter(|token| (first..first + features.tokens()).contains(*token));
        let kept = vectors.entry(layer).or_default();
        here.for_each(|token| kept.extend_from_slice(features.row(token - first)));
        Ok(())
    })?;
    let mut clusters: BTreeMap<usize, Clusters> = BTreeMap::new();
    for (layer, vectors) in vectors {
        let features = Features::new(vectors.len() / sample.len(), &vectors)?;
        let wanted = FOR_EACH_EXPERT * trace.layers()[layer].experts;
        clusters.insert(layer, k_means(&features, wanted, seed.child("clusters").index(layer as u64))?);
    }
    let mut of: Vec<Option<Vec<u32>>> =
        (0..trace.layers().len()).map(|layer| clusters.contains_key(&layer).then(Vec::new)).collect();
    each_batch(subject, batches, trace, |layer, _, features| {
        if let (Some(clusters), Some(of)) = (clusters.get(&layer), of[layer].as_mut()) {
            let nearest = |token: usize| clusters.nearest(features.row(token));
            of.par_extend((0..features.tokens()).into_par_iter().map(nearest));
        }
        Ok(())
    })?;
    Ok(InputClusters { of })
}

/// Some of these tokens, drawn at random, in their order.
pub(super) fn sample(tokens: &[usize], wanted: usize, seed: Seed) -> Vec<usize> {
    let mut drawn = tokens.to_vec();
    drawn.shuffle(&mut seed.rng());
    drawn.truncate(wanted);
    drawn.sort_unstable();
    drawn
}

/// Shows what the router of each layer reads, batch by batch: the place of the layer, the number of the batch's first token, and the vectors.
fn each_batch(
    subject: &mut dyn Subject,
    batches: &[(Tokens, TokenTable)],
    trace: &RoutingTrace,
    mut show: impl FnMut(usize, usize, &Features) -> Result<(), AnalysisError>,
) -> Result<(), AnalysisError> {
    let points: Vec<HookPoint> =
        trace.layers().iter().map(|layer| HookPoint::block(Site::RouterIn, layer.layer)).collect();
    let mut first = 0;
    for (tokens, _) in batches {
        let seen = subject.run(&Request { record: &points, ..Request::of(tokens) })?;
        for (layer, point) in points.iter().enumerate() {
            if let Some(value) = seen.values.get(point) {
                show(layer, first, &Features::of_value(value)?)?;
            }
        }
        first += tokens.len();
    }
    Ok(())
}

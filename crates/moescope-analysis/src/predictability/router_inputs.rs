//! Clusters of the vectors that routers read.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use moescope_trace::{RoutingTrace, TokenTable};
use rand::seq::SliceRandom;

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
/// the same seed, in passes of the sequences in which these stand alone; another pass over the text sends every token to its nearest centre, so that no vector is kept. Distances are
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
    for (tokens, rows) in windows(batches, &sample)? {
        each_layer(subject, &tokens, trace, |layer, features| {
            let kept = vectors.entry(layer).or_default();
            rows.iter().for_each(|row| kept.extend_from_slice(features.row(*row)));
        })?;
    }
    let mut clusters: BTreeMap<usize, Clusters> = BTreeMap::new();
    for (layer, vectors) in vectors {
        let features = Features::new(vectors.len() / sample.len(), &vectors)?;
        let wanted = FOR_EACH_EXPERT * trace.layers()[layer].experts;
        clusters.insert(layer, k_means(&features, wanted, seed.child("clusters").index(layer as u64))?);
    }
    let mut of: Vec<Option<Vec<u32>>> =
        (0..trace.layers().len()).map(|layer| clusters.contains_key(&layer).then(Vec::new)).collect();
    for (tokens, _) in batches {
        each_layer(subject, tokens, trace, |layer, features| {
            if let (Some(clusters), Some(of)) = (clusters.get(&layer), of[layer].as_mut()) {
                of.extend(clusters.nearest(features));
            }
        })?;
    }
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

/// Of each batch the sequences in which some of these tokens stand, ascending by token, with the places of these among their tokens.
fn windows(
    batches: &[(Tokens, TokenTable)],
    sample: &[usize],
) -> Result<Vec<(Tokens, Vec<usize>)>, AnalysisError> {
    let (mut found, mut first, mut left) = (Vec::new(), 0, sample);
    for (tokens, _) in batches {
        let positions = tokens.positions();
        let (here, later) = left.split_at(left.partition_point(|token| *token < first + tokens.len()));
        left = later;
        let (mut ids, mut rows, mut last) = (Vec::new(), Vec::new(), None);
        for token in here.iter().map(|token| token - first) {
            let sequence = token / positions;
            if last.replace(sequence) != Some(sequence) {
                ids.extend_from_slice(&tokens.ids()[sequence * positions..(sequence + 1) * positions]);
            }
            rows.push(ids.len() - positions + token % positions);
        }
        first += tokens.len();
        if !rows.is_empty() {
            found.push((Tokens::new(ids.clone(), ids.len() / positions, positions)?, rows));
        }
    }
    Ok(found)
}

/// Shows what the router of each layer reads: the place of the layer, and the vectors.
fn each_layer(
    subject: &mut dyn Subject,
    tokens: &Tokens,
    trace: &RoutingTrace,
    mut show: impl FnMut(usize, &Features),
) -> Result<(), AnalysisError> {
    let points: Vec<HookPoint> =
        trace.layers().iter().map(|layer| HookPoint::block(Site::RouterIn, layer.layer)).collect();
    let seen = subject.run(&Request::recording(tokens, &points))?;
    for (layer, point) in points.iter().enumerate() {
        if let Some(value) = seen.values.get(point) {
            show(layer, &Features::of_value(value)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sequences_with_wanted_tokens_are_run() {
        let batch = |ids: std::ops::Range<u32>, batch| {
            (Tokens::new(ids.collect(), batch, 3).unwrap(), TokenTable::default())
        };
        let batches = [batch(0..9, 3), batch(9..12, 1), batch(12..18, 2)];
        let found = windows(&batches, &[0, 2, 7, 16]).unwrap();
        assert_eq!(found.len(), 2);
        let (tokens, rows) = &found[0];
        assert_eq!((tokens.ids(), tokens.batch(), &rows[..]), (&[0, 1, 2, 6, 7, 8][..], 2, &[0, 2, 4][..]));
        let (tokens, rows) = &found[1];
        assert_eq!((tokens.ids(), tokens.batch(), &rows[..]), (&[15, 16, 17][..], 1, &[1][..]));
        assert!(windows(&batches, &[]).unwrap().is_empty());
    }
}

//! Clusters of the vectors that routers read.

use moescope_base::{
    FeedForwardShape, HookPoint, Observation, Request, Seed, Site, Subject, SubjectShape, Tokens,
};
use moescope_trace::{RoutingTrace, TokenTable};
use rand::seq::SliceRandom;

use super::Halves;
use crate::AnalysisError;
use crate::clustering::{Clusters, k_means};
use crate::matrix::Features;
use crate::overhearing::Ear;

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
    let mut sorting = Sorting::new(subject, batches, trace.tokens(), seed)?;
    for (batch, (tokens, _)) in batches.iter().enumerate() {
        let seen = subject.run(&Request::recording(tokens, &sorting.points))?;
        sorting.hear(subject, batch, &seen)?;
    }
    Ok(sorting.found)
}

/// Sorts what the routers read into clusters while a text passes for something else.
pub(crate) struct Sorting {
    /// Of each routed layer what its router reads.
    points: Vec<HookPoint>,
    /// Of each routed layer; none where its router shows no input.
    clusters: Vec<Option<Clusters>>,
    /// What was sorted so far.
    pub(crate) found: InputClusters,
}

impl Sorting {
    /// Learns the centres from a sample of the text, of which `tokens` is the table.
    ///
    /// # Errors
    /// As [`input_clusters`].
    pub(crate) fn new(
        subject: &mut dyn Subject,
        batches: &[(Tokens, TokenTable)],
        tokens: &TokenTable,
        seed: Seed,
    ) -> Result<Sorting, AnalysisError> {
        let halves = Halves::new(tokens, seed)?;
        let teaching: Vec<usize> = (0..tokens.len()).filter(|token| halves.teaches(*token)).collect();
        let sample = sample(&teaching, SAMPLE, seed.child("vectors"));
        let layers = routed(subject.shape());
        let points: Vec<HookPoint> =
            layers.iter().map(|(layer, _)| HookPoint::block(Site::RouterIn, *layer)).collect();
        let mut vectors: Vec<Vec<f64>> = vec![Vec::new(); layers.len()];
        for (tokens, rows) in windows(batches, &sample)? {
            let seen = subject.run(&Request::recording(&tokens, &points))?;
            for (kept, point) in vectors.iter_mut().zip(&points) {
                let Some(value) = seen.values.get(point) else { continue };
                let features = Features::of_value(value)?;
                rows.iter().for_each(|row| kept.extend_from_slice(features.row(*row)));
            }
        }
        let learn = |(place, (vectors, (_, experts))): (usize, (&Vec<f64>, &(usize, usize)))| {
            if vectors.is_empty() {
                return Ok(None);
            }
            let features = Features::new(vectors.len() / sample.len(), vectors)?;
            k_means(&features, FOR_EACH_EXPERT * experts, seed.child("clusters").index(place as u64))
                .map(Some)
        };
        let clusters: Vec<Option<Clusters>> =
            vectors.iter().zip(&layers).enumerate().map(learn).collect::<Result<_, AnalysisError>>()?;
        let of = clusters.iter().map(|clusters| clusters.as_ref().map(|_| Vec::new())).collect();
        Ok(Sorting { points, clusters, found: InputClusters { of } })
    }
}

impl Ear for Sorting {
    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn hear(&mut self, _: &mut dyn Subject, _: usize, seen: &Observation) -> Result<(), AnalysisError> {
        for ((point, clusters), of) in self.points.iter().zip(&self.clusters).zip(&mut self.found.of) {
            if let (Some(value), Some(clusters), Some(of)) = (seen.values.get(point), clusters, of) {
                of.extend(clusters.nearest(&Features::of_value(value)?));
            }
        }
        Ok(())
    }
}

/// The routed layers, as a trace has them: block and experts.
fn routed(shape: &SubjectShape) -> Vec<(usize, usize)> {
    let routed = shape.feed_forward.iter().enumerate().filter_map(|(layer, shape)| match shape {
        FeedForwardShape::Routed { experts, .. } => Some((layer, *experts)),
        FeedForwardShape::Dense { .. } => None,
    });
    routed.collect()
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

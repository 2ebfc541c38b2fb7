//! Where dictionaries are learned, and the rows that pass there.

use std::collections::BTreeMap;

use moescope_base::{FeedForwardShape, HookPoint, Request, Seed, Site, SubjectShape, row_tokens};
use moescope_dictionary::DictionaryError;
use moescope_engine::Tensor;
use rand::seq::SliceRandom;

use super::METHOD;
use super::learned::{BATCH, MIXED, features};
use crate::instrument::Material;
use crate::{AnalysisError, Sample, check};

/// Blocks in which dictionaries are learned, at most: evenly spaced, the last among them.
pub(super) const BLOCKS: usize = 2;
/// Sequences that rows are taken from, at most, of as many documents as there are.
pub(crate) const SEQUENCES: usize = 256;
/// Rows of a site, at most, spread evenly over these.
const ROWS: usize = 8192;
/// Tokens at the start of each sequence that are left out: models put very long vectors on the first.
const SKIPPED: usize = 1;

/// Documents, at least: of a fifth of them an interval is told.
const DOCUMENTS: usize = 20;

/// What a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The first dictionary learns from it.
    First,
    /// The second one does.
    Second,
    /// Both are judged on it.
    Judges,
}

/// Deals documents into two parts of two fifths to learn from, and one of a fifth that judges.
///
/// # Errors
/// With fewer than twenty documents: fewer than four would judge.
pub(super) fn parts(documents: &[u32], seed: Seed) -> Result<BTreeMap<u32, Part>, AnalysisError> {
    let mut order = documents.to_vec();
    order.sort_unstable();
    order.dedup();
    check::at_least(METHOD, "documents", order.len(), DOCUMENTS)?;
    order.shuffle(&mut seed.child("parts").rng());
    let part = |place: usize| match place % 5 {
        0 => Part::Judges,
        1 | 2 => Part::First,
        _ => Part::Second,
    };
    Ok(order.into_iter().enumerate().map(|(place, document)| (document, part(place))).collect())
}

/// Rows of one site; all lists have an entry for each.
///
/// - **Shape:** `rows[row, d_model]`, of the tokens that pass the site: all of a stream, those sent to it of an expert.
/// - **Unit:** that of the stream.
pub(crate) struct Gathered {
    pub(crate) point: HookPoint,
    /// `[row, d_model]`.
    pub(crate) rows: Tensor,
    /// Token ids.
    pub(crate) ids: Vec<u32>,
    pub(crate) documents: Vec<u32>,
}

impl Gathered {
    /// The rows whose documents are for this, and these documents.
    pub(super) fn part(
        &self,
        parts: &BTreeMap<u32, Part>,
        part: Part,
    ) -> Result<(Tensor, Vec<u32>), DictionaryError> {
        let width = self.rows.columns();
        let chosen: Vec<usize> =
            (0..self.documents.len()).filter(|row| parts.get(&self.documents[*row]) == Some(&part)).collect();
        let row = |row: &usize| &self.rows.data()[row * width..][..width];
        let data = chosen.iter().flat_map(row).copied().collect();
        let documents = chosen.iter().map(|row| self.documents[*row]).collect();
        Ok((Tensor::new([chosen.len(), width], data)?, documents))
    }

    /// Whether two rows differ.
    pub(crate) fn varies(&self) -> bool {
        let width = self.rows.columns();
        let first = &self.rows.data()[..width.min(self.rows.len())];
        self.rows.data().chunks_exact(width).any(|row| row != first)
    }
}

/// Values of the widest pass, for plans of memory: what one block adds, and what one expert of it answers.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    let Some(layer) = shape.layers().checked_sub(1) else { return Vec::new() };
    let mut points = vec![HookPoint::block(Site::MlpOut, layer)];
    let routed = shape.routed_layers();
    points.extend(routed.last().map(|layer| HookPoint::expert(Site::ExpertOut, *layer, 0)));
    points
}

/// Bytes that the instrument keeps of so many tokens, for plans of memory: the rows of three sites, Gaussian rows like them with the mixture
/// that makes them, and two trainings at a time with their mixed rows and the values of a step.
pub fn kept(width: usize, tokens: usize) -> u64 {
    let (rows, features) = (tokens.min(ROWS), features(width));
    let rows = 6 * rows * width + rows * rows / 2;
    let trainings = 2 * (10 * features * width + 4 * MIXED * width + 16 * BATCH * features);
    4 * (rows + trainings) as u64
}

/// The blocks that are looked at: at most so many, evenly spaced, the last among them.
fn blocks(all: usize, most: usize) -> Vec<usize> {
    let count = all.min(most);
    (1..=count).map(|at| at * all / count - 1).collect()
}

/// The sites of at most so many blocks: the stream after it, what its feed-forward layer adds, and the answers of its most used expert.
pub(crate) fn sites(material: &mut Material<'_>, most: usize) -> Result<Vec<Vec<HookPoint>>, AnalysisError> {
    let shape = material.subject.shape().clone();
    let of = |layer: usize| {
        let mut points =
            vec![HookPoint::block(Site::ResidPost, layer), HookPoint::block(Site::MlpOut, layer)];
        if let FeedForwardShape::Routed { experts, .. } = shape.feed_forward[layer] {
            let expert = most_used(material, layer, experts)?;
            points.push(HookPoint::expert(Site::ExpertOut, layer, expert));
        }
        Ok(points)
    };
    blocks(shape.layers(), most).into_iter().map(of).collect()
}

/// The expert that most tokens choose, the first of equals.
fn most_used(material: &mut Material<'_>, layer: usize, experts: usize) -> Result<usize, AnalysisError> {
    let mut counts = vec![0_usize; experts];
    let trace = material.routes()?;
    let choices = trace.layers().iter().filter(|routing| routing.layer == layer).flat_map(|r| &r.choices);
    choices.for_each(|expert| counts[*expert as usize] += 1);
    Ok((0..experts).max_by_key(|expert| (counts[*expert], std::cmp::Reverse(*expert))).unwrap_or(0))
}

/// The rows of the sites of one block.
///
/// # Errors
/// If the subject cannot answer or leaves out a value.
pub(crate) fn gather(
    material: &mut Material<'_>,
    samples: &[Sample],
    points: &[HookPoint],
) -> Result<Vec<Gathered>, AnalysisError> {
    let tokens: usize = samples.iter().map(|sample| sample.tokens().len()).sum();
    let every = tokens.div_ceil(ROWS).max(1);
    let width = material.subject.shape().d_model;
    let mut collected = vec![Collected::default(); points.len()];
    for sample in samples {
        let seen = material.subject.run(&Request::recording(sample.tokens(), points))?;
        for (collected, point) in collected.iter_mut().zip(points) {
            let value = seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
            let rows = row_tokens(value).into_iter().zip(value.real().unwrap_or(&[]).chunks_exact(width));
            // An expert has few rows, of which none is left out.
            let every = if point.expert_index().is_some() { 1 } else { every };
            rows.for_each(|(token, row)| collected.add(token as usize, row, sample, every));
        }
    }
    let whole = |(point, collected): (&HookPoint, Collected)| {
        let Collected { data, ids, documents, .. } = collected;
        let rows = Tensor::new([ids.len(), width], data).map_err(DictionaryError::from)?;
        Ok(Gathered { point: *point, rows, ids, documents })
    };
    points.iter().zip(collected).map(whole).collect()
}

/// Rows of a site as they come.
#[derive(Clone, Default)]
struct Collected {
    data: Vec<f32>,
    ids: Vec<u32>,
    documents: Vec<u32>,
    came: usize,
}

impl Collected {
    /// Takes every so many rows, of tokens that are not skipped, while there is room.
    fn add(&mut self, token: usize, row: &[f32], sample: &Sample, every: usize) {
        self.came += 1;
        let skipped = skipped(token, sample.tokens().positions());
        if skipped || !self.came.is_multiple_of(every) || self.ids.len() >= ROWS {
            return;
        }
        self.data.extend_from_slice(row);
        self.ids.push(sample.tokens().ids()[token]);
        self.documents.push(sample.documents()[token]);
    }
}

/// Whether rows of this token are left out.
pub(super) fn skipped(token: usize, positions: usize) -> bool {
    token % positions < SKIPPED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_is_always_among_those_that_are_looked_at() {
        assert_eq!(blocks(1, 2), [0]);
        assert_eq!(blocks(2, 2), [0, 1]);
        assert_eq!(blocks(7, 2), [2, 6]);
        assert!(blocks(0, 2).is_empty());
    }

    #[test]
    fn documents_are_dealt_once_whatever_their_order_and_few_are_refused() {
        let documents: Vec<u32> = (0..40).map(|d| d % 20).collect();
        let dealt = parts(&documents, Seed(1)).unwrap();
        let backwards: Vec<u32> = documents.iter().rev().copied().collect();
        assert_eq!(dealt, parts(&backwards, Seed(1)).unwrap());
        let count = |part| dealt.values().filter(|of| **of == part).count();
        assert_eq!((count(Part::First), count(Part::Second), count(Part::Judges)), (8, 8, 4));
        assert_ne!(dealt, parts(&documents, Seed(2)).unwrap());
        assert!(parts(&documents[..19], Seed(1)).unwrap_err().to_string().contains("at least 20"));
    }
}

//! Which tokens the answers of experts promote, and clusters of these by the directions of the unembedding.

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use moescope_trace::{LayerRouting, RoutingTrace};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::token_clusters::counts;
use crate::clustering::k_means;
use crate::matrix::{Features, normal};
use crate::next_token::most_probable;
use crate::{AnalysisError, check};

/// Tokens that are counted for each answer, as in the source.
pub const PROMOTED: usize = 3;

/// Tokens whose answers are read, at most.
const TOKENS: usize = 1024;

/// Vectors that the unembedding reads in one product.
const ROWS_AT_ONCE: usize = 64;

/// Directions that tell tokens of the vocabulary apart; of a wider stream so many are drawn.
const DIRECTIONS: usize = 128;

/// What no token of the text has as its place among those that were read.
const UNREAD: u32 = u32::MAX;

/// What the answers of the experts of all routed layers promote, at some tokens of a text.
///
/// An answer is what an expert writes for one token, before its weight. The final norm and the unembedding read it as they would a residual
/// stream, and the tokens with the largest logits are those that it promotes.
///
/// - **Does not show:** that the promoted tokens survive: the answer is a small part of the stream, and later layers may take it away.
#[derive(Clone, Debug, PartialEq)]
pub struct PromotedTokens {
    /// Place among the tokens that were read, of every token of the text; the largest number where it was not read.
    places: Vec<u32>,
    /// Ids by routed layer, in the order of the trace: `[place, slot, rank]`.
    layers: Vec<Vec<u32>>,
}

#[cfg(test)]
impl PromotedTokens {
    /// Whether the answers of a token were read.
    pub(super) fn has(&self, token: usize) -> bool {
        self.places[token] != UNREAD
    }

    /// Ids of one answer, in a layer of so many choices for each token.
    pub(super) fn of(&self, layer: usize, token: usize, slot: usize, per_token: usize) -> &[u32] {
        let answer = self.places[token] as usize * per_token + slot;
        &self.layers[layer][answer * PROMOTED..(answer + 1) * PROMOTED]
    }
}

/// Clusters of what answers promote.
#[derive(Clone, Debug, PartialEq)]
pub struct PromotedClusters {
    /// What decides.
    pub(super) by: &'static str,
    /// Number of clusters.
    pub(super) count: usize,
    /// As those of [`PromotedTokens`].
    pub(super) places: Vec<u32>,
    /// Clusters by routed layer, ascending within an answer: `[place, slot, promoted token]`.
    pub(super) layers: Vec<Vec<u32>>,
}

impl PromotedClusters {
    /// Whether the answers of a token were read.
    pub(super) fn has(&self, token: usize) -> bool {
        self.places[token] != UNREAD
    }
}

/// Reads the answers of all experts at evenly spaced tokens of a text, 1,024 of them at most.
///
/// For each routed layer one pass is made over each batch, so that the answers of one layer are in memory at a time.
///
/// # Errors
/// If the trace is of another text, or the subject cannot answer or leaves an expert out.
pub fn promoted_tokens(
    subject: &mut dyn Subject,
    batches: &[Tokens],
    trace: &RoutingTrace,
) -> Result<PromotedTokens, AnalysisError> {
    let available = batches.iter().map(Tokens::len).sum();
    check::same_length("promoted tokens", "routes", trace.tokens().len(), available)?;
    let wanted = available.min(TOKENS);
    let mut places = vec![UNREAD; available];
    (0..wanted).for_each(|place| places[place * available / wanted] = place as u32);
    let mut layers = Vec::new();
    for layer in trace.layers() {
        let mut reader = Reader {
            layer,
            places: &places,
            promoted: vec![0; wanted * layer.per_token * PROMOTED],
            waiting: Vec::new(),
            vectors: Vec::new(),
        };
        let mut before = 0;
        for tokens in batches {
            reader.batch(subject, tokens, before)?;
            before += tokens.len();
        }
        reader.flush(subject)?;
        layers.push(reader.promoted);
    }
    Ok(PromotedTokens { places, layers })
}

/// The answers of one layer on their way through the unembedding.
struct Reader<'r> {
    layer: &'r LayerRouting,
    /// Place of every token of the text.
    places: &'r [u32],
    /// `[place, slot, rank]`.
    promoted: Vec<u32>,
    /// Where the answers that wait belong: first entry of `promoted`.
    waiting: Vec<usize>,
    /// These answers, one after the other.
    vectors: Vec<f32>,
}

impl Reader<'_> {
    /// The answers at one batch, before which there are so many tokens.
    fn batch(
        &mut self,
        subject: &mut dyn Subject,
        tokens: &Tokens,
        before: usize,
    ) -> Result<(), AnalysisError> {
        let of = |expert| HookPoint::expert(Site::ExpertOut, self.layer.layer, expert);
        let points: Vec<HookPoint> = (0..self.layer.experts).map(of).collect();
        let seen = subject.run(&Request::recording(tokens, &points))?;
        let width = subject.shape().d_model;
        for (expert, point) in points.iter().enumerate() {
            let value = seen.values.get(point).and_then(|value| Some((value.rows()?, value.real()?)));
            let (rows, answers) = value.ok_or(AnalysisError::NotRecorded { point: *point })?;
            for (row, answer) in rows.iter().zip(answers.chunks_exact(width)) {
                self.answer(before + *row as usize, expert as u32, answer);
                if self.waiting.len() == ROWS_AT_ONCE {
                    self.flush(subject)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps the answer of an expert to a token of the text until enough wait.
    fn answer(&mut self, token: usize, expert: u32, answer: &[f32]) {
        let slot = self.layer.chosen(token).iter().position(|chosen| *chosen == expert);
        if let (Some(slot), false) = (slot, self.places[token] == UNREAD) {
            let answers = self.places[token] as usize * self.layer.per_token + slot;
            self.waiting.push(answers * PROMOTED);
            self.vectors.extend_from_slice(answer);
        }
    }

    /// Reads what waits.
    fn flush(&mut self, subject: &mut dyn Subject) -> Result<(), AnalysisError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let logits = subject.unembed(&self.vectors)?;
        let rows = logits.par_chunks_exact(logits.len() / self.waiting.len());
        let found: Vec<Vec<u32>> = rows.map(|logits| most_probable(logits, PROMOTED)).collect();
        for (first, ids) in self.waiting.drain(..).zip(found) {
            self.promoted[first..first + ids.len()].copy_from_slice(&ids);
        }
        self.vectors.clear();
        Ok(())
    }
}

/// Clusters of the promoted tokens by their directions in the unembedding, as the final norm weights its coordinates; each token counts once.
///
/// The directions are read by putting single coordinates, or in a wide stream random directions, in the place of the stream: distances between
/// tokens are kept, about, and no matrix of the size of the unembedding is held.
///
/// # Errors
/// If the subject cannot answer.
pub fn clusters_by_unembedding(
    subject: &mut dyn Subject,
    promoted: &PromotedTokens,
    seed: Seed,
) -> Result<Vec<PromotedClusters>, AnalysisError> {
    let mut ids: Vec<u32> = promoted.layers.iter().flatten().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = directions(subject, &ids, seed)?;
    let of_count = |wanted: usize| {
        let clusters = k_means(&rows, wanted, seed.child("promoted").index(wanted as u64))?;
        let cluster = |id: &u32| {
            let place = ids.binary_search(id).expect("every promoted id is among all of them");
            clusters.assigned[place]
        };
        let layer = |layer: &Vec<u32>| {
            let mut of: Vec<u32> = layer.iter().map(cluster).collect();
            of.chunks_exact_mut(PROMOTED).for_each(<[u32]>::sort_unstable);
            of
        };
        Ok(PromotedClusters {
            by: "unembedding",
            count: clusters.count(),
            places: promoted.places.clone(),
            layers: promoted.layers.iter().map(layer).collect(),
        })
    };
    counts(ids.len()).into_iter().map(of_count).collect()
}

/// What some tokens have along coordinates, or random directions, of the stream: `[id, direction]`.
fn directions(subject: &mut dyn Subject, ids: &[u32], seed: Seed) -> Result<Features, AnalysisError> {
    let (width, vocabulary) = (subject.shape().d_model, subject.shape().vocab);
    let count = width.min(DIRECTIONS);
    let mut rng = seed.child("directions").rng();
    let base = subject.unembed(&vec![0.0; width])?;
    let mut found = vec![0.0; ids.len() * count];
    for first in (0..count).step_by(ROWS_AT_ONCE) {
        let here = first..count.min(first + ROWS_AT_ONCE);
        let number = |direction: usize, coordinate: usize, rng: &mut ChaCha8Rng| match width <= DIRECTIONS {
            true => f32::from(u8::from(direction == coordinate)),
            false => normal(rng) as f32,
        };
        let mut probes = Vec::with_capacity(here.len() * width);
        for direction in here.clone() {
            probes.extend((0..width).map(|coordinate| number(direction, coordinate, &mut rng)));
        }
        let logits = subject.unembed(&probes)?;
        for (direction, logits) in here.zip(logits.chunks_exact(vocabulary)) {
            for (place, id) in ids.iter().enumerate() {
                let id = *id as usize;
                found[place * count + direction] = f64::from(logits[id]) - f64::from(base[id]);
            }
        }
    }
    Features::new(count, &found)
}

/// Bytes that clusters of promoted tokens take, at most: the directions of a whole vocabulary, twice.
pub fn kept(vocabulary: usize) -> u64 {
    16 * (vocabulary * DIRECTIONS) as u64
}

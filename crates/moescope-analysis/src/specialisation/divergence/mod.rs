//! How far the tokens of an expert, and the tokens that its answers promote, are spread over clusters otherwise than those of its layer.

#[cfg(test)]
mod answer_tests;
mod counts;
mod report;
#[cfg(test)]
mod tests;

use std::ops::Range;

use moescope_trace::{LayerRouting, RoutingTrace};
use rand::seq::SliceRandom;
use rayon::prelude::*;

pub use report::{divergence_figure, divergence_table, expert_divergence_table};

use self::counts::{Counts, Kinds, Laid};
use super::TokenClusters;
use super::promoted_tokens::{PROMOTED, PromotedClusters};
use crate::routing::{NullComparison, Permutations};
use crate::statistics::{LEAST_UNITS, Tail, standard_deviation, student};
use crate::{AnalysisError, check};

const METHOD: &str = "divergence of experts";

/// Draws behind the divergence that counting alone gives; a mean needs no more.
const MULTINOMIAL_DRAWS: usize = 20;

/// What of an expert is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tokens that are sent to it.
    Input,
    /// The tokens that its answers promote, three of each.
    Output,
}

impl Side {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }
}

/// Divergence of the experts of one layer from the layer, over clusters of the tokens that are sent to them, or that their answers promote.
///
/// - **Unit and range:** bits, 0 (every expert has the tokens that the layer has) to 1; the Jensen–Shannon divergence, base 2, between the
///   shares of the clusters among an expert's slots and among all slots of the layer, mean over experts weighted by their slots. On the output
///   side each slot is counted under the clusters of its three promoted tokens.
/// - **Null:** two. `multinomial`: as many slots drawn from the layer, for each expert alone, since few slots diverge by chance; the three
///   tokens of an answer, which are alike, are drawn together. What is beyond it is `beyond`, with a jackknife interval over documents that takes this null for known. It takes slots for independent, which those of a document are not, so the p-value of
///   `divergence` is against another one: routes of whole documents beside the tokens, or the answers, of other documents, place by place and slot by slot, cyclic
///   where these are shorter.
/// - **Does not show:** that experts compute otherwise: who gets other tokens answers otherwise, even if the weights are the same. Nor
///   specialisation within a cluster. On the input side tokens alone decide what cluster they are in, so context does not count.
/// - **Source:** the two sides of the specialisation of arXiv 2604.02178, there over clusters of the unembedding of all tokens, with promoted
///   tokens drawn one by one, no final norm, and without the second null.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerDivergence {
    /// Block.
    pub layer: usize,
    /// What is counted.
    pub side: Side,
    /// What clusters are made by.
    pub by: &'static str,
    /// Number of clusters.
    pub clusters: usize,
    /// Mean over experts beside exchanged documents.
    pub divergence: NullComparison,
    /// Mean over experts of what as many slots drawn from the layer have.
    pub multinomial: f64,
    /// Divergence minus that, and its interval; the ends are NaN with fewer than [`LEAST_UNITS`] documents.
    pub beyond: [f64; 3],
    /// Documents.
    pub documents: usize,
    /// Tokens.
    pub tokens: usize,
    /// Each expert that a token chose.
    pub experts: Vec<ExpertDivergence>,
}

/// Divergence of one expert; units, null and limits are those of [`LayerDivergence`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertDivergence {
    /// Expert of its layer.
    pub expert: usize,
    /// Tokens that chose it.
    pub slots: usize,
    /// Divergence from the layer.
    pub divergence: f64,
    /// Mean of as many slots drawn from the layer.
    pub multinomial: f64,
}

/// Compares the experts of every layer with their layer, over these clusters.
///
/// # Errors
/// If there are fewer than two documents, no permutation is asked for, or there is not one cluster for each token.
pub fn cluster_divergence(
    trace: &RoutingTrace,
    clusters: &TokenClusters,
    permutations: Permutations,
) -> Result<Vec<LayerDivergence>, AnalysisError> {
    permutations.check(METHOD)?;
    check::same_length(METHOD, "list of clusters", clusters.of.len(), trace.tokens().len())?;
    let documents = documents(&trace.tokens().documents, |_| true);
    check::at_least(METHOD, "documents", documents.len(), 2)?;
    let marks = Marks::Tokens(&clusters.of);
    let text = Text { marks, side: Side::Input, by: clusters.by, clusters: clusters.count, documents };
    Ok(trace.layers().iter().map(|layer| of_layer(layer, &text, permutations)).collect())
}

/// The same for what the answers promote, at the tokens whose answers were read.
///
/// # Errors
/// As [`cluster_divergence`], of the documents of these tokens; if the clusters are of another text.
pub fn answer_divergence(
    trace: &RoutingTrace,
    promoted: &PromotedClusters,
    permutations: Permutations,
) -> Result<Vec<LayerDivergence>, AnalysisError> {
    permutations.check(METHOD)?;
    check::same_length(METHOD, "list of answers", promoted.places.len(), trace.tokens().len())?;
    check::same_length(METHOD, "list of layers", promoted.layers.len(), trace.layers().len())?;
    let documents = documents(&trace.tokens().documents, |token| promoted.has(token));
    check::at_least(METHOD, "documents", documents.len(), 2)?;
    let mut text = Text {
        marks: Marks::Tokens(&[]),
        side: Side::Output,
        by: promoted.by,
        clusters: promoted.count,
        documents,
    };
    let mut found = Vec::new();
    for (layer, of) in trace.layers().iter().zip(&promoted.layers) {
        text.marks = Marks::Answers { places: &promoted.places, of, per_token: layer.per_token };
        found.push(of_layer(layer, &text, permutations.child("answers")));
    }
    Ok(found)
}

/// The text as what is counted needs it.
struct Text<'c> {
    marks: Marks<'c>,
    side: Side,
    /// What clusters are made by.
    by: &'static str,
    /// Number of clusters.
    clusters: usize,
    /// Tokens of each document that are counted, in their order.
    documents: Vec<Vec<usize>>,
}

/// The clusters that a slot is counted under.
enum Marks<'c> {
    /// That of the token that is sent: `[token]`.
    Tokens(&'c [u32]),
    /// Those of the tokens that the answer promotes: `[place, slot, promoted token]`, with the place of every token of the text.
    Answers { places: &'c [u32], of: &'c [u32], per_token: usize },
}

impl Marks<'_> {
    fn of(&self, token: usize, slot: usize) -> &[u32] {
        match self {
            Marks::Tokens(of) => &of[token..=token],
            Marks::Answers { places, of, per_token } => {
                let answer = places[token] as usize * per_token + slot;
                &of[answer * PROMOTED..(answer + 1) * PROMOTED]
            }
        }
    }

    /// Clusters of one slot.
    fn of_slot(&self) -> usize {
        match self {
            Marks::Tokens(_) => 1,
            Marks::Answers { .. } => PROMOTED,
        }
    }
}

/// Tokens by document, documents by their number, of the tokens that are wanted.
fn documents(of_token: &[u32], wanted: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..of_token.len()).filter(|token| wanted(*token)).collect();
    order.sort_by_key(|token| of_token[*token]);
    order.chunk_by(|a, b| of_token[*a] == of_token[*b]).map(<[usize]>::to_vec).collect()
}

fn of_layer(layer: &LayerRouting, text: &Text<'_>, permutations: Permutations) -> LayerDivergence {
    let own: Vec<usize> = (0..text.documents.len()).collect();
    let laid = Laid::new(layer, text);
    let counts = Counts::of(&laid, &own);
    let observed = counts.mean();
    let draws = permutations.child("exchanged documents").draw(
        || own.clone(),
        |order, rng| {
            order.copy_from_slice(&own);
            order.shuffle(rng);
            Counts::of(&laid, order).mean()
        },
    );
    let by_chance = counts.multinomial(&Kinds::of(layer, text), text.marks.of_slot(), permutations);
    let multinomial = counts.weighted(&by_chance);
    let experts = (0..layer.experts).filter(|expert| counts.slots(*expert) > 0.0);
    let expert = |expert: usize| ExpertDivergence {
        expert,
        slots: counts.slots(expert) as usize / text.marks.of_slot(),
        divergence: divergence(counts.row(expert), &counts.all),
        multinomial: by_chance[expert],
    };
    let reach = match own.len() < LEAST_UNITS {
        true => f64::NAN,
        false => {
            let error = jackknife_error(&laid, &counts);
            student::quantile(0.975, own.len() as f64 - 1.0) * error
        }
    };
    let beyond = observed - multinomial;
    LayerDivergence {
        layer: layer.layer,
        side: text.side,
        by: text.by,
        clusters: text.clusters,
        divergence: NullComparison::new(observed, &draws, Tail::Greater),
        multinomial,
        beyond: [beyond, beyond - reach, beyond + reach],
        documents: own.len(),
        tokens: text.documents.iter().map(Vec::len).sum(),
        experts: experts.map(expert).collect(),
    }
}

/// Jensen–Shannon divergence of two lists of counts, bits; 0 where one of them is empty.
fn divergence(first: &[f64], second: &[f64]) -> f64 {
    let totals = [first, second].map(|counts| counts.iter().sum::<f64>());
    if totals.iter().any(|total| *total <= 0.0) {
        return 0.0;
    }
    let term = |(a, b): (&f64, &f64)| {
        let (p, q) = (a / totals[0], b / totals[1]);
        let middle = (p + q) / 2.0;
        let part = |x: f64| if x > 0.0 { x * (x / middle).log2() / 2.0 } else { 0.0 };
        part(p) + part(q)
    };
    first.iter().zip(second).map(term).sum::<f64>().max(0.0)
}

/// Standard error by leaving out one document at a time.
fn jackknife_error(laid: &Laid<'_>, counts: &Counts) -> f64 {
    let without = |document: &Range<usize>| counts.without(laid, document).mean();
    let values: Vec<f64> = laid.documents.par_iter().map(without).collect();
    let documents = values.len() as f64;
    standard_deviation(&values) * (documents - 1.0) / documents.sqrt()
}

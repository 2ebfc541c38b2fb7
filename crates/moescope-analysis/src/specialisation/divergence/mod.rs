//! How far the tokens of an expert are spread over clusters otherwise than those of its layer.

mod report;
#[cfg(test)]
mod tests;

use moescope_trace::{LayerRouting, RoutingTrace};
use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;

pub use report::{divergence_figure, divergence_table, expert_divergence_table};

use super::TokenClusters;
use crate::routing::{NullComparison, Permutations};
use crate::statistics::{LEAST_UNITS, Tail, standard_deviation, student};
use crate::{AnalysisError, check};

const METHOD: &str = "divergence of experts";

/// Draws behind the divergence that counting alone gives; a mean needs no more.
const MULTINOMIAL_DRAWS: usize = 20;

/// Divergence of the experts of one layer from the layer, over clusters of the tokens that are sent to them.
///
/// - **Unit and range:** bits, 0 (every expert has the tokens that the layer has) to 1; the Jensen–Shannon divergence, base 2, between the
///   shares of the clusters among an expert's slots and among all slots of the layer, mean over experts weighted by their slots.
/// - **Null:** two. `multinomial`: as many slots drawn from the layer's shares, for each expert alone, since few slots diverge by chance; what is
///   beyond it is `beyond`, with a jackknife interval over documents that takes this null for known. It takes slots for independent, which those of a document are not, so the p-value of
///   `divergence` is against another one: routes of whole documents beside the tokens of other documents, place by place, cyclic where
///   these are shorter.
/// - **Does not show:** that experts compute otherwise, nor what they write; nor specialisation within a cluster. Tokens alone decide what
///   cluster they are in, so context does not count.
/// - **Source:** input side of the specialisation of arXiv 2604.02178, there over clusters of the unembedding of all tokens and without
///   the second null.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerDivergence {
    /// Block.
    pub layer: usize,
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
    let documents = documents(&trace.tokens().documents);
    check::at_least(METHOD, "documents", documents.len(), 2)?;
    let text = Text { clusters, documents };
    Ok(trace.layers().iter().map(|layer| of_layer(layer, &text, permutations)).collect())
}

/// The text as what is counted needs it.
struct Text<'c> {
    clusters: &'c TokenClusters,
    /// Tokens of each document, in their order.
    documents: Vec<Vec<usize>>,
}

/// Tokens by document, documents by their number.
fn documents(of_token: &[u32]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..of_token.len()).collect();
    order.sort_by_key(|token| of_token[*token]);
    order.chunk_by(|a, b| of_token[*a] == of_token[*b]).map(<[usize]>::to_vec).collect()
}

fn of_layer(layer: &LayerRouting, text: &Text<'_>, permutations: Permutations) -> LayerDivergence {
    let size = text.clusters.count;
    let own: Vec<usize> = (0..text.documents.len()).collect();
    let counts = Counts::of(layer, text, &own);
    let observed = counts.mean();
    let draws = permutations.child("exchanged documents").draw(
        || own.clone(),
        |order, rng| {
            order.copy_from_slice(&own);
            order.shuffle(rng);
            Counts::of(layer, text, order).mean()
        },
    );
    let by_chance = counts.multinomial(permutations);
    let multinomial = counts.weighted(&by_chance);
    let experts = (0..layer.experts).filter(|expert| counts.slots(*expert) > 0.0);
    let expert = |expert: usize| ExpertDivergence {
        expert,
        slots: counts.slots(expert) as usize,
        divergence: divergence(counts.row(expert), &counts.all),
        multinomial: by_chance[expert],
    };
    let reach = match own.len() < LEAST_UNITS {
        true => f64::NAN,
        false => {
            let error = jackknife_error(layer, text, &counts);
            student::quantile(0.975, own.len() as f64 - 1.0) * error
        }
    };
    let beyond = observed - multinomial;
    LayerDivergence {
        layer: layer.layer,
        by: text.clusters.by,
        clusters: size,
        divergence: NullComparison::new(observed, &draws, Tail::Greater),
        multinomial,
        beyond: [beyond, beyond - reach, beyond + reach],
        documents: own.len(),
        tokens: layer.choices.len() / layer.per_token,
        experts: experts.map(expert).collect(),
    }
}

/// Slots of each expert in each cluster: `[expert, cluster]`, and their sum over experts.
#[derive(Clone)]
struct Counts {
    counts: Vec<f64>,
    all: Vec<f64>,
}

impl Counts {
    /// The routes of each document beside the tokens of the document that stands at its place in this order.
    fn of(layer: &LayerRouting, text: &Text<'_>, order: &[usize]) -> Counts {
        let size = text.clusters.count;
        let mut found = Counts { counts: vec![0.0; layer.experts * size], all: vec![0.0; size] };
        for (routes, tokens) in text.documents.iter().zip(order) {
            found.add(layer, text, routes, &text.documents[*tokens], 1.0);
        }
        found
    }

    /// Adds one document so many times.
    fn add(&mut self, layer: &LayerRouting, text: &Text<'_>, routes: &[usize], tokens: &[usize], times: f64) {
        let size = self.all.len();
        for (place, token) in routes.iter().enumerate() {
            let cluster = text.clusters.of[tokens[place % tokens.len()]] as usize;
            for expert in layer.chosen(*token) {
                self.counts[*expert as usize * size + cluster] += times;
                self.all[cluster] += times;
            }
        }
    }

    fn row(&self, expert: usize) -> &[f64] {
        &self.counts[expert * self.all.len()..(expert + 1) * self.all.len()]
    }

    fn slots(&self, expert: usize) -> f64 {
        self.row(expert).iter().sum()
    }

    fn experts(&self) -> usize {
        self.counts.len() / self.all.len()
    }

    /// Mean over experts of what each has, weighted by their slots.
    fn weighted(&self, values: &[f64]) -> f64 {
        let parts = (0..self.experts()).map(|expert| self.slots(expert) * values[expert]);
        // Ascending, so that renaming the experts does not change a bit of the sum.
        let mut parts: Vec<f64> = parts.collect();
        parts.sort_unstable_by(f64::total_cmp);
        parts.iter().sum::<f64>() / self.all.iter().sum::<f64>()
    }

    fn mean(&self) -> f64 {
        let own = |expert: usize| divergence(self.row(expert), &self.all);
        self.weighted(&(0..self.experts()).map(own).collect::<Vec<f64>>())
    }

    /// Mean divergence of as many slots as each expert has, drawn from the layer's shares.
    fn multinomial(&self, permutations: Permutations) -> Vec<f64> {
        let mut before = 0.0;
        let sums = self.all.iter().map(|count| {
            before += count;
            before
        });
        let sums: Vec<f64> = sums.collect();
        let draw = |expert: usize| {
            let slots = self.slots(expert) as usize;
            // By the number of slots and not by name, so that renamed experts have the same draws.
            let mut rng = permutations.seed.child("multinomial").index(slots as u64).rng();
            let one = |rng: &mut rand_chacha::ChaCha8Rng| {
                let mut drawn = vec![0.0; self.all.len()];
                for _ in 0..slots {
                    let place = rng.random::<f64>() * before;
                    drawn[sums.partition_point(|sum| *sum <= place).min(sums.len() - 1)] += 1.0;
                }
                divergence(&drawn, &self.all)
            };
            (0..MULTINOMIAL_DRAWS).map(|_| one(&mut rng)).sum::<f64>() / MULTINOMIAL_DRAWS as f64
        };
        (0..self.experts()).into_par_iter().map(draw).collect()
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
fn jackknife_error(layer: &LayerRouting, text: &Text<'_>, counts: &Counts) -> f64 {
    let without = |document: &Vec<usize>| {
        let mut rest = counts.clone();
        rest.add(layer, text, document, document, -1.0);
        rest.mean()
    };
    let values: Vec<f64> = text.documents.par_iter().map(without).collect();
    let documents = values.len() as f64;
    standard_deviation(&values) * (documents - 1.0) / documents.sqrt()
}

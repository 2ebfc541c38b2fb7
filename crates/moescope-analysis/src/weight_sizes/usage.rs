//! How often experts are chosen and how large their answers are, and whether the norm of their weights goes with that.

use std::collections::BTreeMap;

use moescope_base::{FeedForwardShape, HookPoint, Request, Site, Subject};
use rand::seq::SliceRandom;

use super::{LayerSizes, METHOD};
use crate::routing::{NullComparison, Permutations};
use crate::statistics::{Bootstrap, Resampling, Tail, bootstrap, holm, spearman};
use crate::{AnalysisError, Sample};

/// What the experts of one layer do in each document: `[document][expert]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens that choose each expert.
    pub tokens: Vec<Vec<f64>>,
    /// Sum over these of the length of the answer, before its weight.
    pub lengths: Vec<Vec<f64>>,
}

impl Usage {
    /// What the experts of a layer do in some text. One pass for each sample.
    ///
    /// # Errors
    /// If the layer is not routed, or the subject cannot answer or leaves an expert out.
    pub fn of(subject: &mut dyn Subject, samples: &[Sample], layer: usize) -> Result<Usage, AnalysisError> {
        let FeedForwardShape::Routed { experts, .. } = subject.shape().feed_forward[layer] else {
            return Err(AnalysisError::TooFew { method: METHOD, unit: "experts", found: 0, wanted: 2 });
        };
        let width = subject.shape().d_model;
        let points: Vec<HookPoint> =
            (0..experts).map(|expert| HookPoint::expert(Site::ExpertOut, layer, expert)).collect();
        let mut documents: BTreeMap<u32, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for sample in samples {
            let seen = subject.run(&Request::recording(sample.tokens(), &points))?;
            for (expert, point) in points.iter().enumerate() {
                let value = seen.values.get(point).and_then(|value| Some((value.rows()?, value.real()?)));
                let (rows, answers) = value.ok_or(AnalysisError::NotRecorded { point: *point })?;
                for (row, answer) in rows.iter().zip(answers.chunks_exact(width)) {
                    let document = sample.documents()[*row as usize];
                    let none = || (vec![0.0; experts], vec![0.0; experts]);
                    let (tokens, lengths) = documents.entry(document).or_insert_with(none);
                    tokens[expert] += 1.0;
                    lengths[expert] += answer.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                }
            }
        }
        let (tokens, lengths) = documents.into_values().unzip();
        Ok(Usage { tokens, lengths })
    }

    /// Share of the slots that each expert has in some documents.
    pub fn load(&self, documents: &[usize]) -> Vec<f64> {
        let tokens = sums(&self.tokens, documents);
        let all: f64 = tokens.iter().sum();
        tokens.into_iter().map(|tokens| tokens / all).collect()
    }

    /// Mean length of the answers of each expert in some documents; NaN where no token chooses it.
    pub fn answer(&self, documents: &[usize]) -> Vec<f64> {
        let (tokens, lengths) = (sums(&self.tokens, documents), sums(&self.lengths, documents));
        lengths.into_iter().zip(tokens).map(|(length, tokens)| length / tokens).collect()
    }

    /// All documents.
    pub fn all(&self) -> Vec<usize> {
        (0..self.tokens.len()).collect()
    }
}

/// Sums over some documents, repeats included: `[expert]`.
fn sums(of: &[Vec<f64>], documents: &[usize]) -> Vec<f64> {
    let experts = of.first().map_or(0, Vec::len);
    (0..experts).map(|expert| documents.iter().map(|document| of[*document][expert]).sum()).collect()
}

/// Rank correlation over the experts of one layer.
///
/// - **Unit and range:** Spearman's coefficient, −1 to 1, over experts that some token chooses; its interval resamples documents and takes
///   the experts for what they are.
/// - **Null:** one of the two dealt out to other experts; two-sided. Experts, not documents, are what is exchanged.
/// - **Does not show:** which comes first. A router may prefer large answers, and an expert with more tokens may grow. The answer is taken at
///   the tokens that choose the expert alone: those of experts that were not chosen are not known.
/// - **Source:** size of an expert's output beside its score, Lo et al. 2024 (arXiv 2406.18219), there for all experts at each token; here of
///   the chosen ones by expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation {
    /// Block.
    pub layer: usize,
    /// What is ranked.
    pub first: &'static str,
    /// What it is held against.
    pub second: &'static str,
    /// Coefficient beside dealt-out experts.
    pub correlation: NullComparison,
    /// Interval over documents.
    pub interval: Bootstrap,
    /// Its p-value, corrected over layers by Holm's procedure.
    pub corrected: f64,
    /// Experts.
    pub experts: usize,
}

/// The three pairs, and what is asked of each.
const PAIRS: [(&str, &str); 3] = [("norm", "load"), ("norm", "answer"), ("answer", "load")];

/// Fewest experts of which ranks say anything.
const FEWEST: usize = 4;

/// Rank correlations of the norm of experts, their load and the mean length of their answers, in every layer.
///
/// Layers with fewer than four chosen experts, or of which two documents are not there, have no row; nor has what is equal for all experts.
///
/// # Errors
/// If no draw or replicate is asked for.
pub fn relations(
    layers: &[LayerSizes],
    usage: &[Usage],
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Vec<Relation>, AnalysisError> {
    permutations.check(METHOD)?;
    let mut found = Vec::new();
    for (first, second) in PAIRS {
        let mut own = Vec::new();
        for (layer, usage) in layers.iter().zip(usage) {
            let draws = permutations.child(first).child(second).index(layer.layer);
            own.extend(relation(layer, usage, (first, second), draws, resampling)?);
        }
        let p: Vec<f64> = own.iter().map(|relation| relation.correlation.p_value).collect();
        own.iter_mut().zip(holm(&p)).for_each(|(relation, p)| relation.corrected = p);
        found.extend(own);
    }
    Ok(found)
}

/// One pair in one layer; none where there is nothing to rank.
///
/// The interval resamples documents and counts load and answers anew; the null deals values out to other experts, and keeps both lists as
/// they are. An expert without a token in some drawn documents is left out of that replicate alone.
fn relation(
    layer: &LayerSizes,
    usage: &Usage,
    (first, second): (&'static str, &'static str),
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Option<Relation>, AnalysisError> {
    let all = usage.all();
    if all.len() < 2 {
        return Ok(None);
    }
    let load = usage.load(&all);
    let chosen: Vec<usize> = (0..layer.experts.len()).filter(|expert| load[*expert] > 0.0).collect();
    let values = |name: &str, documents: &[usize]| -> Vec<f64> {
        let of: Vec<f64> = match name {
            "norm" => layer.experts.iter().map(|expert| expert.norm).collect(),
            "load" => usage.load(documents),
            _ => usage.answer(documents),
        };
        chosen.iter().map(|expert| of[*expert]).collect()
    };
    let of_documents = |documents: &[usize]| {
        let (a, b) = (values(first, documents), values(second, documents));
        // An expert that no token of some drawn documents chooses has no answer there.
        let known: Vec<usize> = (0..a.len()).filter(|at| a[*at].is_finite() && b[*at].is_finite()).collect();
        let of = |list: &[f64]| known.iter().map(|at| list[*at]).collect::<Vec<f64>>();
        spearman(&of(&a), &of(&b)).map_or(f64::NAN, |found| found.coefficient)
    };
    let observed = of_documents(&all);
    if chosen.len() < FEWEST || observed.is_nan() {
        return Ok(None);
    }
    let (mut own, mut other) = (values(first, &all), values(second, &all));
    // In an order that names do not decide, so that renamed experts have the same draws.
    own.sort_unstable_by(f64::total_cmp);
    other.sort_unstable_by(f64::total_cmp);
    let draws = permutations.draw(
        || other.clone(),
        |dealt, rng| {
            dealt.copy_from_slice(&other);
            dealt.shuffle(rng);
            spearman(&own, dealt).map_or(0.0, |found| found.coefficient)
        },
    );
    Ok(Some(Relation {
        layer: layer.layer,
        first,
        second,
        correlation: NullComparison::new(observed, &draws, Tail::TwoSided),
        interval: bootstrap(all.len(), of_documents, resampling)?,
        corrected: f64::NAN,
        experts: chosen.len(),
    }))
}

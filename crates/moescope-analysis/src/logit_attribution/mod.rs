//! Direct logit attribution: what every head and every expert adds to the logit of the token that comes.

mod gives;
mod instrument;
mod parts;
mod readout;

use std::collections::{BTreeMap, BTreeSet};

use moescope_base::{HookPoint, Request, Seed, Site, Subject};
use rand::seq::SliceRandom;

pub use instrument::LogitAttribution;
pub use parts::Part;

use crate::recorded::real;
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::{AnalysisError, Sample, check};
use parts::{each_part, points};
use readout::Readout;

const METHOD: &str = "logit attribution";
/// How far the sum of all parts may be from the logit, as a share of the largest logit: rounding in single precision.
const TOLERANCE: f64 = 1e-2;

/// What one part adds.
///
/// - **Unit and range:** logits, any sign: what the part writes, read out by final norm and unembedding for the token that comes next,
///   against the mean over the vocabulary; the denominator of the final norm is that of the token. Over all parts, with the bias of the
///   readout, this sums to the logit.
/// - **Null:** the same for tokens that come elsewhere in the text.
/// - **Does not show:** what a part does through later ones, which read what it writes; nor that the model needs it.
/// - **Source:** direct logit attribution, Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// What writes.
    pub part: Part,
    /// Mean over all tokens, an expert adding 0 where it is not chosen, with an interval over documents.
    pub mean: Bootstrap,
    /// The same for exchanged next tokens.
    pub null: f64,
    /// Mean over the tokens in which the part has a say; of an expert, those that choose it.
    pub where_active: f64,
    /// Share of tokens in which it has.
    pub active: f64,
}

/// The logit of the token that comes next, in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// Every part, in the order of the pass.
    pub parts: Vec<Contribution>,
    /// Mean logit of the token that comes, against the mean over the vocabulary.
    pub logit: Bootstrap,
    /// Its part that no vector writes: the biases of final norm and unembedding.
    pub base: f64,
    /// Largest distance of a logit from the sum of its parts.
    pub residue: f64,
}

/// Sums over the tokens of one document.
#[derive(Clone, Debug, Default)]
struct Sums {
    tokens: f64,
    logit: f64,
    base: f64,
    /// Sum, sum for exchanged tokens, tokens in which the part has a say.
    parts: BTreeMap<Part, [f64; 3]>,
}

/// Takes the logits apart.
///
/// # Errors
/// If the subject cannot answer or leaves out a value, there are fewer than four documents, or the parts do not sum to the logits, as
/// where logits are capped.
pub fn logit_attribution(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Attribution, AnalysisError> {
    let wanted: BTreeSet<u32> = samples.iter().flat_map(|sample| sample.tokens().ids()).copied().collect();
    let readout = Readout::of(subject, &wanted.into_iter().collect::<Vec<_>>())?;
    let mut documents: BTreeMap<u32, Sums> = BTreeMap::new();
    let (mut residue, mut largest) = (0.0_f64, 0.0_f64);
    for (index, sample) in samples.iter().enumerate() {
        let apart = one_sample(subject, sample, &readout, seed.index(index as u64), &mut documents)?;
        (residue, largest) = (residue.max(apart[0]), largest.max(apart[1]));
    }
    check::documents(METHOD, documents.len())?;
    let found = format!("{residue:.3} away from the sum of its parts");
    let wanted = "a final norm and an unembedding that are linear once the denominator is held, so no cap on the logits";
    check::in_range(METHOD, "a logit", found, residue <= TOLERANCE * largest.max(1.0), wanted)?;
    summarise(&documents.into_values().collect::<Vec<_>>(), residue, resampling)
}

/// Adds one sample to the sums; the largest distance of a logit from its sum, and the largest logit.
fn one_sample(
    subject: &mut dyn Subject,
    sample: &Sample,
    readout: &Readout,
    seed: Seed,
    documents: &mut BTreeMap<u32, Sums>,
) -> Result<[f64; 2], AnalysisError> {
    let (tokens, shape) = (sample.tokens(), subject.shape().clone());
    let seen = subject.run(&Request::recording(tokens, &points(&shape)))?;
    let logits = real(&seen, HookPoint::global(Site::Logits))?;
    let scales = real(&seen, HookPoint::global(Site::FinalScale))?;
    let rows: Vec<usize> =
        (0..tokens.len()).filter(|row| !(row + 1).is_multiple_of(tokens.positions())).collect();
    let next: BTreeMap<usize, u32> = rows.iter().map(|row| (*row, tokens.ids()[row + 1])).collect();
    let mut others: Vec<u32> = next.values().copied().collect();
    others.shuffle(&mut seed.child("exchanged tokens").rng());
    let others: BTreeMap<usize, u32> = rows.iter().copied().zip(others).collect();
    let mut sums: BTreeMap<usize, f64> = rows.iter().map(|row| (*row, readout.base(next[row]))).collect();
    for row in &rows {
        let of_document = documents.entry(sample.documents()[*row]).or_default();
        of_document.tokens += 1.0;
        of_document.logit += against_mean(logits, shape.vocab, *row, next[row]);
        of_document.base += readout.base(next[row]);
    }
    each_part(&seen, &shape, tokens.len(), &mut |part, row, vector| {
        let Some(token) = next.get(&row) else { return };
        let scale = f64::from(scales[row]);
        let adds = readout.adds(vector, *token, scale);
        *sums.get_mut(&row).expect("a row that has a next token") += adds;
        let of_document = documents.get_mut(&sample.documents()[row]).expect("entered above");
        let [sum, exchanged, count] = of_document.parts.entry(part).or_default();
        *sum += adds;
        *exchanged += readout.adds(vector, others[&row], scale);
        *count += 1.0;
    })?;
    let apart = |(row, sum): (&usize, &f64)| {
        let logit = against_mean(logits, shape.vocab, *row, next[row]);
        [(logit - sum).abs(), logit.abs()]
    };
    Ok(sums.iter().map(apart).fold([0.0; 2], |a, b| [a[0].max(b[0]), a[1].max(b[1])]))
}

/// The logit of a token at a row, against the mean over the vocabulary.
fn against_mean(logits: &[f32], vocabulary: usize, row: usize, token: u32) -> f64 {
    let row = &logits[row * vocabulary..(row + 1) * vocabulary];
    let mean = row.iter().map(|logit| f64::from(*logit)).sum::<f64>() / vocabulary as f64;
    f64::from(row[token as usize]) - mean
}

fn summarise(documents: &[Sums], residue: f64, resampling: Resampling) -> Result<Attribution, AnalysisError> {
    let all: Vec<usize> = (0..documents.len()).collect();
    let total =
        |drawn: &[usize], of: &dyn Fn(&Sums) -> f64| drawn.iter().map(|d| of(&documents[*d])).sum::<f64>();
    let mean =
        |drawn: &[usize], of: &dyn Fn(&Sums) -> f64| total(drawn, of) / total(drawn, &|sums| sums.tokens);
    let names: BTreeSet<Part> = documents.iter().flat_map(|sums| sums.parts.keys()).copied().collect();
    let of_part = |part: &Part| {
        let at = |which: usize| move |sums: &Sums| sums.parts.get(part).map_or(0.0, |sums| sums[which]);
        Ok(Contribution {
            part: *part,
            mean: bootstrap(documents.len(), |drawn| mean(drawn, &at(0)), resampling)?,
            null: mean(&all, &at(1)),
            where_active: total(&all, &at(0)) / total(&all, &at(2)),
            active: (total(&all, &at(2)) / total(&all, &|sums| sums.tokens)).min(1.0),
        })
    };
    Ok(Attribution {
        parts: in_order(names).iter().map(of_part).collect::<Result<_, AnalysisError>>()?,
        logit: bootstrap(documents.len(), |drawn| mean(drawn, &|sums| sums.logit), resampling)?,
        base: mean(&all, &|sums| sums.base),
        residue,
    })
}

/// Parts in the order of the pass.
fn in_order(parts: BTreeSet<Part>) -> Vec<Part> {
    let place = |part: &Part| match *part {
        Part::Embedding => (0, 0),
        Part::Head(layer, _) => (layer + 1, 0),
        Part::Attention(layer) => (layer + 1, 1),
        Part::Expert(layer, _) => (layer + 1, 2),
        Part::FeedForward(layer) => (layer + 1, 3),
    };
    let mut order: Vec<Part> = parts.into_iter().collect();
    order.sort_by_key(place);
    order
}

#[cfg(test)]
mod tests;

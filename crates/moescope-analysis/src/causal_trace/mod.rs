//! Causal tracing: which vectors, restored one at a time, bring a prediction back after the embedding of what it depends on was disturbed.

mod cases;
mod gives;
mod instrument;
mod passes;
mod tables;
#[cfg(test)]
mod tests;
mod titles;

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Seed, Site, Subject, SubjectShape};

pub use instrument::CausalTracing;

use crate::depth::spread_over;
use crate::statistics::{self, Bootstrap, LEAST_UNITS, Resampling, bootstrap, student};
use crate::{AnalysisError, Sample, check};
use cases::Case;
use passes::Stage;

const METHOD: &str = "causal trace";
/// Heads of a block that are restored, at most; evenly spaced where there are more.
const HEADS: usize = 32;

/// What is restored to its value in the undisturbed pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Restored {
    /// The residual stream after a block.
    Stream,
    /// What the feed-forward layer adds: all chosen experts together.
    FeedForward,
    /// What one expert adds: the one that had the largest weight in the undisturbed pass.
    Expert,
    /// What attention adds: all heads together.
    Attention,
    /// What one head has gathered, before it is written.
    Head(usize),
}

impl Restored {
    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Restored::Stream => "stream".to_owned(),
            Restored::FeedForward => "feed-forward layer".to_owned(),
            Restored::Expert => "one expert".to_owned(),
            Restored::Attention => "attention".to_owned(),
            Restored::Head(head) => format!("head {head}"),
        }
    }

    /// The head, if it is one.
    pub fn head(self) -> Option<usize> {
        match self {
            Restored::Head(head) => Some(head),
            _ => None,
        }
    }
}

/// Where the prediction is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// After the last token of the subject itself.
    Own,
    /// After a later token, which sees the subject through attention.
    Later,
}

impl Reach {
    /// Its name, which seeds the noise.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Own => "own",
            Reach::Later => "later",
        }
    }
}

/// At which token a vector is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The last token of the subject.
    Subject,
    /// The token after which the prediction is read.
    Reader,
}

impl Place {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Place::Subject => "subject",
            Place::Reader => "reader",
        }
    }
}

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceOptions {
    /// Blocks in which vectors are restored, at most; evenly spaced where there are more.
    pub layers: usize,
    /// Places in each sequence that are tried as subjects.
    pub candidates: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
    /// Source of the noise and the places.
    pub seed: Seed,
}

/// How much of a prediction comes back when one vector is restored.
///
/// The subject is a run of at most three tokens, to whose embeddings noise of three standard deviations of all embeddings is added. In
/// each sequence it is the one, of several that are tried, that costs the prediction most, and the token that is predicted is the model's own
/// most probable one. Fresh noise then serves for the trace.
///
/// - **Unit and range:** `recovery` is the probability of that token with the restored vector minus that without, over what the noise
///   takes: 0 if nothing comes back, 1 if all; it can be above 1 or below 0. `effect` is the numerator alone, `total` the denominator.
///   Ratios of sums over cases; intervals resample documents.
/// - **Null:** the vector that the next sequence's subject has at the same place of its own; the p-value is of no difference from it.
/// - **Does not show:** that what is restored is needed, nor where a fact is stored: vectors that are restored carry all that came before
///   them. With `held` routes neither noise nor restoration changes a choice of experts, with free ones both may.
/// - **Source:** causal tracing, Meng et al. 2022 (arXiv 2202.05262), with single experts and with routes held or free (arXiv 2606.03780).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovery {
    /// Where the prediction is read.
    pub reach: Reach,
    /// Block.
    pub layer: usize,
    /// What is restored.
    pub restored: Restored,
    /// At which token.
    pub place: Place,
    /// Whether all choices of experts are those of the undisturbed pass.
    pub held: bool,
    /// Share of the lost probability that comes back.
    pub recovery: Bootstrap,
    /// The same with the vector of another sequence.
    pub null: f64,
    /// Of no difference between the two, two-sided: Student's t of their differences over documents.
    pub p_value: f64,
    /// Probability that comes back, on average.
    pub effect: f64,
    /// Probability that the noise takes, on average.
    pub total: f64,
    /// Sequences in which a subject was found.
    pub cases: usize,
}

/// Names of one number.
type Key = (Reach, usize, Restored, Place, bool);
/// Of each document: probability that comes back, with another sequence's vector, probability that the noise takes, cases.
type Sums = BTreeMap<Key, BTreeMap<u32, [f64; 4]>>;

/// Traces one prediction of each sequence after its subject, and one later.
///
/// # Errors
/// If the subject cannot answer, no batch has two sequences, or noise takes no prediction in four documents.
pub fn causal_trace(
    subject: &mut dyn Subject,
    samples: &[Sample],
    options: TraceOptions,
) -> Result<Vec<Recovery>, AnalysisError> {
    let layers = layers(subject.shape(), options.layers);
    let mut sums = Sums::new();
    for (index, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.tokens().batch() > 1) {
        let seed = options.seed.index(index as u64);
        let clean = passes::clean(subject, sample, &layers)?;
        let found = cases::find(subject, sample, &clean, options.candidates, seed)?;
        for (reach, cases) in found {
            if cases.len() > 1 {
                trace(subject, sample, (&clean, &layers), (reach, &cases), seed, &mut sums)?;
            }
        }
    }
    let of =
        |(key, documents): (&Key, &BTreeMap<u32, [f64; 4]>)| summarise(*key, documents, options.resampling);
    let enough = sums.iter().filter(|(_, documents)| documents.len() >= LEAST_UNITS);
    let found: Vec<Recovery> = enough.map(of).collect::<Result<_, _>>()?;
    check::at_least(METHOD, "predictions of four documents that noise takes", found.len(), 1)?;
    Ok(found)
}

/// Blocks in which vectors are restored.
fn layers(shape: &SubjectShape, wanted: usize) -> Vec<usize> {
    let all = shape.layers();
    let count = all.min(wanted.max(1));
    (0..count).map(|at| at * all / count).collect()
}

/// Values that one pass keeps, at most.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    passes::looked_at(shape, &layers(shape, instrument::LAYERS))
}

/// Restores one vector of every case at a time.
fn trace(
    subject: &mut dyn Subject,
    sample: &Sample,
    (clean, layers): (&moescope_base::Observation, &[usize]),
    (reach, cases): (Reach, &[Case]),
    seed: Seed,
    sums: &mut Sums,
) -> Result<(), AnalysisError> {
    // Without a routed layer there is nothing to hold.
    let ways: &[bool] = if subject.shape().routed_layers().is_empty() { &[false] } else { &[false, true] };
    for held in ways.iter().copied() {
        let stage = Stage::observe(subject, sample, (clean, layers), cases, held, seed.child(reach.name()))?;
        for (layer, restored, place) in restorable(subject.shape(), layers, reach, held) {
            let found =
                [false, true].map(|foreign| stage.restore(subject, (layer, restored, place), foreign));
            let [own, foreign] = found;
            let (own, foreign) = (own?, foreign?);
            let of_key = sums.entry((reach, layer, restored, place, held)).or_default();
            for (at, case) in cases.iter().enumerate() {
                let here = [own[at], foreign[at], case.probability - stage.disturbed[at], 1.0];
                let sums = of_key.entry(case.document).or_default();
                sums.iter_mut().zip(here).for_each(|(sum, here)| *sum += here);
            }
        }
    }
    Ok(())
}

/// What is restored where, layer by layer.
///
/// Single heads carry what a later token reads, so they are restored at the reader alone, and with routes free.
fn restorable(
    shape: &SubjectShape,
    layers: &[usize],
    reach: Reach,
    held: bool,
) -> Vec<(usize, Restored, Place)> {
    let places: &[Place] = match reach {
        Reach::Own => &[Place::Subject],
        Reach::Later => &[Place::Subject, Place::Reader],
    };
    let routed = shape.routed_layers();
    let mut found = Vec::new();
    for layer in layers {
        let mut kinds = vec![Restored::Stream, Restored::FeedForward, Restored::Attention];
        kinds.extend(routed.contains(layer).then_some(Restored::Expert));
        found.extend(kinds.iter().flat_map(|kind| places.iter().map(|place| (*layer, *kind, *place))));
        if reach == Reach::Later && !held && has_heads(shape) {
            let heads = spread_over(shape.heads, HEADS);
            found.extend(heads.map(|head| (*layer, Restored::Head(head), Place::Reader)));
        }
    }
    found
}

/// Whether single heads are values of their own; where attention weights experts they are not.
fn has_heads(shape: &SubjectShape) -> bool {
    shape.options.has(Site::AttnResult)
}

fn summarise(
    (reach, layer, restored, place, held): Key,
    documents: &BTreeMap<u32, [f64; 4]>,
    resampling: Resampling,
) -> Result<Recovery, AnalysisError> {
    let documents: Vec<[f64; 4]> = documents.values().copied().collect();
    let total = |which: usize| documents.iter().map(|sums| sums[which]).sum::<f64>();
    let beyond: Vec<f64> = documents.iter().map(|[own, foreign, ..]| own - foreign).collect();
    let count = beyond.len() as f64;
    let t = statistics::mean(&beyond) / (statistics::standard_deviation(&beyond) / count.sqrt());
    Ok(Recovery {
        reach,
        layer,
        restored,
        place,
        held,
        recovery: bootstrap(documents.len(), |drawn| ratio(&documents, drawn, 0), resampling)?,
        null: total(1) / total(2),
        p_value: student::two_sided(t, count - 1.0),
        effect: total(0) / total(3),
        total: total(2) / total(3),
        cases: total(3) as usize,
    })
}

/// What comes back over what was taken, of the drawn documents.
fn ratio(documents: &[[f64; 4]], drawn: &[usize], which: usize) -> f64 {
    let total = |which: usize| drawn.iter().map(|document| documents[*document][which]).sum::<f64>();
    total(which) / total(2)
}

//! Parts of a model, rounded.

use moescope_base::{
    FeedForwardShape, HookPoint, Parameters, Projection, Seed, Site, Subject, WeightMatrix, WeightPlace,
};

use super::rounding::{Grouping, noised, round};
use super::{BITS, METHOD, QUARTER};
use crate::document_loss::{Judged, minus};
use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, check};

/// What is rounded.
///
/// Biases, norms, embeddings, shared experts and dense layers stay as they are. A part whose matrices the model lacks, such as the routers of
/// layers that are routed by a hash, has no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All matrices of all routed experts.
    Experts,
    /// Those of the quarter of the experts of each layer that most tokens choose.
    MostUsed,
    /// Those of the quarter that fewest tokens choose.
    LeastUsed,
    /// The matrices of the routers.
    Router,
    /// The matrices of attention.
    Attention,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 5] =
        [Part::Experts, Part::MostUsed, Part::LeastUsed, Part::Router, Part::Attention];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Part::Experts => "experts",
            Part::MostUsed => "most used experts",
            Part::LeastUsed => "least used experts",
            Part::Router => "router",
            Part::Attention => "attention",
        }
    }
}

/// A part of the model rounded to a few bits, all layers at once.
///
/// - **Unit and range:** nats per token of next-token loss, above 0 where the rounded model is worse.
/// - **Null:** `noise`, the change of the loss under changes of every row that are as long as those of rounding, in random directions:
///   what rounding does because weights move, not because of where to.
/// - **Does not show:** what better rounding (by second derivatives, with offsets, after training) would lose, nor rounded activations.
/// - **Source:** absmax rounding of weights: Dettmers et al. 2022 (arXiv 2208.07339); experts against other parts: Kim et al. 2023 (arXiv
///   2310.02410) and Li et al. 2024 (arXiv 2406.08155).
#[derive(Clone, Debug, PartialEq)]
pub struct Rounded {
    /// What is rounded.
    pub part: Part,
    /// Bits for each weight, scales not counted.
    pub bits: u32,
    /// Which weights share a scale.
    pub grouping: Grouping,
    /// Length of the change of the weights over the length of the weights, 0 to 1.
    pub error: f64,
    /// Change of the loss.
    pub loss: Bootstrap,
    /// Change of the loss with noise of the same size.
    pub noise: f64,
    /// Loss under noise minus that under rounding.
    pub beyond: Bootstrap,
    /// Change of the loss by document, summed over predicted tokens: `[document]`.
    pub(super) by_document: Vec<f64>,
}

/// Rounds every part that the model has with every number of bits.
///
/// Two readings of the text for each part, grouping and number of bits, one rounded and one with noise,
/// besides that of the model as it is. The model is put back after each, also where a reading fails.
///
/// # Errors
/// If the model has no routed layer, or the subject cannot answer or run with other weights.
pub(super) fn parts(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<Rounded>, AnalysisError> {
    let free = judged.losses(subject, &[])?;
    let uses = uses(subject, judged)?;
    let documents: Vec<usize> = (0..free.len()).collect();
    let mut found = Vec::new();
    for part in Part::ALL {
        let places = places(subject, part, &uses)?;
        if places.is_empty() {
            continue;
        }
        for (grouping, bits) in Grouping::ALL.into_iter().flat_map(|g| BITS.map(|bits| (g, bits))) {
            let mut error = 0.0;
            let rounded = judged_with(subject, judged, &places, |_, matrix| {
                let rounded = round(matrix, bits, grouping)?;
                error += distance(matrix, &rounded);
                Ok(rounded)
            })?;
            let seed = seed.child("noise").child(part.name()).index(u64::from(bits));
            let noise = judged_with(subject, judged, &places, |number, matrix| {
                noised(matrix, &round(matrix, bits, grouping)?, seed.index(number as u64))
            })?;
            let all: f64 = lengths(subject, &places)?;
            let own = minus(&rounded, &free);
            found.push(Rounded {
                part,
                bits,
                grouping,
                error: if all > 0.0 { (error / all).sqrt() } else { 0.0 },
                loss: judged.mean(&own, &documents, resampling)?,
                noise: judged.estimate(&minus(&noise, &free), &documents),
                beyond: judged.mean(&minus(&noise, &rounded), &documents, resampling)?,
                by_document: own,
            });
        }
    }
    Ok(found)
}

/// The same for whoever has samples.
///
/// # Errors
/// As the instrument's.
pub fn rounded_parts(
    subject: &mut dyn Subject,
    samples: &[crate::Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<Rounded>, AnalysisError> {
    parts(subject, &Judged::new(METHOD, samples)?, seed, resampling)
}

/// Loss of each document with every matrix of these places changed, and the model put back.
pub(super) fn judged_with(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    places: &[WeightPlace],
    mut change: impl FnMut(usize, &WeightMatrix) -> Result<WeightMatrix, AnalysisError>,
) -> Result<Vec<f64>, AnalysisError> {
    let mut all = || {
        let parameters = weights(subject)?;
        for (number, place) in places.iter().enumerate() {
            if let Some(matrix) = parameters.weights(*place)? {
                parameters.replace(*place, &change(number, &matrix)?)?;
            }
        }
        judged.losses(subject, &[])
    };
    let losses = all();
    weights(subject)?.restore()?;
    losses
}

/// The weights of a subject.
pub(super) fn weights(subject: &mut dyn Subject) -> Result<&mut dyn Parameters, AnalysisError> {
    let (what, advice) = ("the subject does not show its weights", "open the model from its files");
    subject.parameters().ok_or(AnalysisError::NoWeights { method: METHOD, what, advice })
}

/// Sum of the squared differences of two matrices of one size.
///
/// Added up over all matrices of a part and divided by their squared length before the root is taken, so that
/// large matrices count for more than small ones.
fn distance(first: &WeightMatrix, second: &WeightMatrix) -> f64 {
    first.data().iter().zip(second.data()).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// Sum of the squares of all weights of some places.
fn lengths(subject: &mut dyn Subject, places: &[WeightPlace]) -> Result<f64, AnalysisError> {
    let parameters = weights(subject)?;
    let mut sum = 0.0;
    for place in places {
        let matrix = parameters.weights(*place)?;
        sum += matrix.map_or(0.0, |m| m.data().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>());
    }
    Ok(sum)
}

/// How many predicted tokens choose each expert of each routed layer: layer, then `[expert]`.
pub(super) type Uses = Vec<(usize, Vec<f64>)>;

/// Counts choices in one pass.
///
/// # Errors
/// If the model has no routed layer, or the subject cannot answer.
pub(super) fn uses(subject: &mut dyn Subject, judged: &Judged<'_>) -> Result<Uses, AnalysisError> {
    let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
        FeedForwardShape::Routed { experts, .. } => Some((layer, vec![0.0; *experts])),
        FeedForwardShape::Dense { .. } => None,
    };
    let mut uses: Uses = subject.shape().feed_forward.iter().enumerate().filter_map(of).collect();
    check::at_least(METHOD, "routed layers", uses.len(), 1)?;
    let points: Vec<HookPoint> =
        uses.iter().map(|(layer, _)| HookPoint::block(Site::RouterIndices, *layer)).collect();
    let mut missing = None;
    judged.pass(subject, &points, &[], &mut |seen, rows| {
        for ((_, uses), point) in uses.iter_mut().zip(&points) {
            let value = seen.values.get(point).and_then(|value| Some((value.columns(), value.integer()?)));
            let Some((per_token, chosen)) = value else {
                missing = Some(*point);
                continue;
            };
            let slots = rows.iter().flat_map(|(row, _)| &chosen[row * per_token..(row + 1) * per_token]);
            slots.for_each(|expert| uses[*expert as usize] += 1.0);
        }
    })?;
    missing.map_or(Ok(uses), |point| Err(AnalysisError::NotRecorded { point }))
}

/// The three matrices of an expert; those that it lacks are passed over.
pub(super) fn expert(layer: usize, expert: usize) -> impl Iterator<Item = WeightPlace> {
    Projection::ALL.into_iter().map(move |projection| WeightPlace::Expert { layer, expert, projection })
}

/// Where the matrices of a part are that the model has.
fn places(subject: &mut dyn Subject, part: Part, uses: &Uses) -> Result<Vec<WeightPlace>, AnalysisError> {
    let layers = subject.shape().layers();
    let candidates: Vec<WeightPlace> = match part {
        Part::Router => uses.iter().map(|(layer, _)| WeightPlace::Router { layer: *layer }).collect(),
        Part::Attention => (0..layers)
            .flat_map(|layer| (0..MATRICES).map(move |number| WeightPlace::Attention { layer, number }))
            .collect(),
        _ => uses
            .iter()
            .flat_map(|(layer, uses)| of_use(uses, part).into_iter().flat_map(|e| expert(*layer, e)))
            .collect(),
    };
    let parameters = weights(subject)?;
    let mut found = Vec::new();
    for place in candidates {
        if parameters.weights(place)?.is_some() {
            found.push(place);
        }
    }
    Ok(found)
}

/// Matrices that an attention has, at most.
const MATRICES: usize = 8;

/// Experts of a layer that a part holds.
fn of_use(uses: &[f64], part: Part) -> Vec<usize> {
    let mut order: Vec<usize> = (0..uses.len()).collect();
    order.sort_by(|a, b| uses[*a].total_cmp(&uses[*b]).then(a.cmp(b)));
    let quarter = ((QUARTER * uses.len() as f64).round() as usize).max(1);
    match part {
        Part::LeastUsed => order.truncate(quarter),
        Part::MostUsed => order = order.split_off(uses.len() - quarter),
        _ => {}
    }
    order
}

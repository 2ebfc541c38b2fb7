//! Ever more neurons within every expert taken out.
//!
//! A silent neuron has a column of zeros in down; what it reads stays, and so do all sizes.

use moescope_base::{
    FeedForwardShape, HookPoint, Parameters, Projection, Seed, Site, Subject, WeightMatrix, WeightPlace,
};
use rand::seq::SliceRandom;

use super::curve::lowest;
use super::{METHOD, NEURON_LAYERS, SHARES};
use crate::document_loss::{Judged, minus};
use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample, check};

/// Random removals of neurons behind each null.
const DRAWS: usize = 2;

/// By what neurons go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeuronCriterion {
    /// Those whose weights are smallest: length of what they read with times that of what they write.
    Magnitude,
    /// Those that add least: mean size of the neuron over the tokens of its expert times the length of what it writes.
    Contribution,
}

impl NeuronCriterion {
    /// Both.
    pub const ALL: [NeuronCriterion; 2] = [NeuronCriterion::Magnitude, NeuronCriterion::Contribution];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            NeuronCriterion::Magnitude => "smallest weights",
            NeuronCriterion::Contribution => "smallest contribution",
        }
    }
}

/// The same share of the neurons of every expert of some layers taken out: they write nothing.
///
/// - **Unit and range:** nats per token of next-token loss, above 0 where the model is worse without the neurons.
/// - **Null:** as many random neurons of each expert; `saved` is what the criterion spares beyond them.
/// - **Does not show:** what training after pruning would restore, nor pruning of layers that were not looked at.
/// - **Source:** magnitudes: Han et al. 2015; size of the neuron times that of the weight: Sun et al. 2024 (arXiv 2306.11695), here of
///   whole neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunedNeurons {
    /// By what neurons go.
    pub criterion: NeuronCriterion,
    /// Share of the neurons of every expert.
    pub share: f64,
    /// Change of the loss, over documents that decided nothing.
    pub loss: Bootstrap,
    /// Mean change with random neurons gone.
    pub random: f64,
    /// Loss with random neurons gone minus that with these gone.
    pub saved: Bootstrap,
}

/// Worth of the neurons of some experts: layer, expert, and one number for each neuron.
type Worth = Vec<(usize, usize, Vec<f64>)>;

/// Takes ever more neurons out of the experts of at most [`NEURON_LAYERS`] layers.
///
/// # Errors
/// If no layer is routed, there are fewer than eight documents, or the subject cannot answer or run with other weights.
pub fn neuron_pruning(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<PrunedNeurons>, AnalysisError> {
    let judged = Judged::new(METHOD, samples)?;
    let (deciding, judging) = judged.halves()?;
    let free = judged.losses(subject, &[])?;
    let experts = experts(subject)?;
    let magnitude = magnitudes(weights(subject)?, &experts)?;
    let contribution = contributions(subject, &judged, &experts, &deciding)?;
    let drawn: Vec<Worth> = (0..DRAWS).map(|draw| random(&magnitude, seed.index(draw as u64))).collect();
    let mut found = Vec::new();
    for share in SHARES {
        let mut without = |worth: &Worth| {
            let losses = silence(subject, worth, share).and_then(|()| judged.losses(subject, &[]));
            weights(subject)?.restore()?;
            Ok::<_, AnalysisError>(minus(&losses?, &free))
        };
        let mut random = vec![0.0; free.len()];
        for worth in &drawn {
            let change = without(worth)?;
            random.iter_mut().zip(change).for_each(|(sum, change)| *sum += change / DRAWS as f64);
        }
        for (criterion, worth) in NeuronCriterion::ALL.into_iter().zip([&magnitude, &contribution]) {
            let own = without(worth)?;
            found.push(PrunedNeurons {
                criterion,
                share,
                loss: judged.mean(&own, &judging, resampling)?,
                random: judged.estimate(&random, &judging),
                saved: judged.mean(&minus(&random, &own), &judging, resampling)?,
            });
        }
    }
    Ok(found)
}

/// The weights of a subject.
fn weights(subject: &mut dyn Subject) -> Result<&mut dyn Parameters, AnalysisError> {
    let (what, advice) = ("the subject does not show its weights", "open the model from its files");
    subject.parameters().ok_or(AnalysisError::NoWeights { method: METHOD, what, advice })
}

/// Layer, expert and number of neurons of what is pruned.
fn experts(subject: &dyn Subject) -> Result<Vec<(usize, usize, usize)>, AnalysisError> {
    let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
        FeedForwardShape::Routed { experts, expert_width, .. } => Some((layer, *experts, *expert_width)),
        FeedForwardShape::Dense { .. } => None,
    };
    let all: Vec<_> = subject.shape().feed_forward.iter().enumerate().filter_map(of).collect();
    check::at_least(METHOD, "routed layers", all.len(), 1)?;
    let count = all.len().min(NEURON_LAYERS);
    let some = (0..count).map(|at| all[at * all.len() / count]);
    Ok(some.flat_map(|(layer, experts, width)| (0..experts).map(move |e| (layer, e, width))).collect())
}

/// Length of each neuron's rows of gate and up.
fn reads(
    parameters: &mut dyn Parameters,
    (layer, expert, width): (usize, usize, usize),
) -> Result<Vec<f64>, AnalysisError> {
    let mut squares = vec![0.0; width];
    for projection in [Projection::Gate, Projection::Up] {
        if let Some(matrix) = parameters.expert(layer, expert, projection)? {
            for (neuron, square) in squares.iter_mut().enumerate() {
                *square += matrix.row(neuron).iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            }
        }
    }
    Ok(squares.into_iter().map(f64::sqrt).collect())
}

/// Length of each neuron's column of down.
fn writes(
    parameters: &mut dyn Parameters,
    (layer, expert, width): (usize, usize, usize),
) -> Result<Vec<f64>, AnalysisError> {
    let mut squares = vec![0.0; width];
    if let Some(matrix) = parameters.expert(layer, expert, Projection::Down)? {
        for row in matrix.data().chunks_exact(width) {
            squares.iter_mut().zip(row).for_each(|(square, x)| *square += f64::from(*x).powi(2));
        }
    }
    Ok(squares.into_iter().map(f64::sqrt).collect())
}

/// Length of what each neuron reads with times that of what it writes.
fn magnitudes(
    parameters: &mut dyn Parameters,
    experts: &[(usize, usize, usize)],
) -> Result<Worth, AnalysisError> {
    let of = |expert: &(usize, usize, usize)| {
        let (reads, writes) = (reads(parameters, *expert)?, writes(parameters, *expert)?);
        Ok((expert.0, expert.1, reads.iter().zip(writes).map(|(a, b)| a * b).collect()))
    };
    experts.iter().map(of).collect()
}

/// Mean size of each neuron over the deciding tokens of its expert, times what it writes; a pass for each layer.
fn contributions(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    experts: &[(usize, usize, usize)],
    deciding: &[usize],
) -> Result<Worth, AnalysisError> {
    let mut found = Vec::new();
    for own in experts.chunk_by(|a, b| a.0 == b.0) {
        let points: Vec<HookPoint> = own
            .iter()
            .map(|(layer, expert, _)| HookPoint::expert(Site::ExpertPost, *layer, *expert))
            .collect();
        let mut sums: Vec<Vec<f64>> = own.iter().map(|(_, _, width)| vec![0.0; *width]).collect();
        let mut counts = vec![0.0_f64; own.len()];
        judged.pass(subject, &points, &[], &mut |seen, rows| {
            let decides = |token: u32| {
                let row = rows.binary_search_by_key(&(token as usize), |row| row.0);
                row.is_ok_and(|row| deciding.binary_search(&rows[row].1).is_ok())
            };
            for (at, point) in points.iter().enumerate() {
                let Some(value) = seen.values.get(point) else { continue };
                let tokens = value.rows().unwrap_or_default().iter();
                let neurons = value.real().unwrap_or_default().chunks_exact(value.columns().max(1));
                for (_, neurons) in tokens.zip(neurons).filter(|(token, _)| decides(**token)) {
                    sums[at].iter_mut().zip(neurons).for_each(|(sum, x)| *sum += f64::from(x.abs()));
                    counts[at] += 1.0;
                }
            }
        })?;
        for ((expert, sums), count) in own.iter().zip(sums).zip(counts) {
            let writes = writes(weights(subject)?, *expert)?;
            let worth = sums.iter().zip(writes).map(|(sum, writes)| sum / count.max(1.0) * writes).collect();
            found.push((expert.0, expert.1, worth));
        }
    }
    Ok(found)
}

/// Worths that say nothing.
fn random(like: &Worth, seed: Seed) -> Worth {
    let of = |(layer, expert, worth): &(usize, usize, Vec<f64>)| {
        let mut ranks: Vec<f64> = (0..worth.len()).map(|rank| rank as f64).collect();
        ranks.shuffle(&mut seed.child("random neurons").index(*layer as u64).index(*expert as u64).rng());
        (*layer, *expert, ranks)
    };
    like.iter().map(of).collect()
}

/// Neurons of least worth write nothing.
fn silence(subject: &mut dyn Subject, worth: &Worth, share: f64) -> Result<(), AnalysisError> {
    let parameters = weights(subject)?;
    for (layer, expert, worth) in worth {
        let place = WeightPlace::Expert { layer: *layer, expert: *expert, projection: Projection::Down };
        let Some(down) = parameters.weights(place)? else { continue };
        let gone = lowest(worth, (share * worth.len() as f64).round() as usize);
        let mut data = down.data().to_vec();
        for row in data.chunks_exact_mut(down.columns()) {
            gone.iter().for_each(|neuron| row[*neuron] = 0.0);
        }
        parameters.replace(place, &WeightMatrix::new(down.columns(), data)?)?;
    }
    Ok(())
}

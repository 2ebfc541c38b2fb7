//! Loss and routes of a disturbed text beside those of the text as it is.
//!
//! Every disturbance is drawn anew for each batch, by the seed; both runs see the same documents, so that what makes a text hard drops out.

use std::collections::BTreeMap;

use moescope_base::{FeedForwardShape, HookPoint, Observation, Request, Seed, Site, Subject, Value};

use super::disturbance::{Disturbance, Disturbed};
use super::{LAYERS, METHOD};
use crate::next_token::{loss_at, predicted};
use crate::statistics::{Bootstrap, Resampling, bootstrap};
use crate::{AnalysisError, Sample, check};

/// Which tokens are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tokens {
    /// Those that were disturbed themselves.
    Touched,
    /// Those whose context alone was.
    Untouched,
}

impl Tokens {
    /// Both.
    pub const ALL: [Tokens; 2] = [Tokens::Touched, Tokens::Untouched];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Tokens::Touched => "touched",
            Tokens::Untouched => "untouched",
        }
    }
}

/// Change of the loss after some tokens of a disturbed text.
///
/// Tokens count of which the next is the same as it was, so that what is predicted stays.
///
/// - **Unit and range:** nats per token, above 0 where the disturbance hurts.
/// - **Null:** 0; for touched tokens, the change after untouched ones: what a disturbed context alone does.
/// - **Does not show:** what another language or subject does: a disturbed text is no text of any domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// What was done.
    pub disturbance: Disturbance,
    /// After which tokens.
    pub tokens: Tokens,
    /// Change of the loss.
    pub loss: Bootstrap,
}

/// Agreement of the routes of a disturbed text with those of the text as it is.
///
/// - **Unit and range:** `agreement` is the mean of |S ∩ S'| / k, 0 to 1; `load_shift` the total variation distance between the loads
///   of the layer before and after, 0 to 1, over all tokens.
/// - **Null:** of the agreement, routes that depend on the load alone: `Σ p q / k` with `p` and `q` the shares of tokens that choose an
///   expert before and after. For touched tokens, untouched ones stand beside. Of the shift of the load, 0.
/// - **Does not show:** whether a changed route matters for what is predicted.
/// - **Source:** agreement as the saturation of OLMoE (Muennighoff et al. 2024).
#[derive(Clone, Debug, PartialEq)]
pub struct RouteShift {
    /// What was done.
    pub disturbance: Disturbance,
    /// Of which tokens.
    pub tokens: Tokens,
    /// Block.
    pub layer: usize,
    /// Mean agreement.
    pub agreement: Bootstrap,
    /// Agreement of independent routes with these loads.
    pub chance: f64,
    /// Distance between the loads.
    pub load_shift: Bootstrap,
}

/// Sums over the documents: of one disturbance.
#[derive(Clone, Default)]
struct Sums {
    /// Change of the loss and number of tokens: `[tokens][document]`.
    loss: [Vec<(f64, f64)>; 2],
    /// Experts in common and slots, by layer: `[tokens][document]`.
    shared: BTreeMap<usize, [Vec<(f64, f64)>; 2]>,
    /// Experts of a token, by layer.
    per_token: BTreeMap<usize, f64>,
    /// Slots of each expert before and after, by layer: `[document][expert]`.
    loads: BTreeMap<usize, [Vec<Vec<f64>>; 2]>,
}

/// Disturbs a text in every way and compares.
///
/// Ten passes for each batch: one of the text as it is, and one for each of nine disturbances. Sums are kept
/// by document, so that intervals resample documents, in which a disturbed token and those that it disturbs
/// stay together.
///
/// # Errors
/// If there are fewer than four documents, or the subject cannot answer.
pub fn shift(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<(Vec<Shift>, Vec<RouteShift>), AnalysisError> {
    let mut places: BTreeMap<u32, usize> =
        samples.iter().flat_map(|sample| sample.documents()).map(|document| (*document, 0)).collect();
    places.values_mut().enumerate().for_each(|(place, entry)| *entry = place);
    check::documents(METHOD, places.len())?;
    let layers = layers(subject);
    let mut all: Vec<Sums> = vec![Sums::new(places.len(), &layers); Disturbance::ALL.len()];
    for (number, sample) in samples.iter().enumerate() {
        let embed = HookPoint::global(Site::Embed);
        let mut record: Vec<HookPoint> = layers.iter().map(|layer| chosen(layer.0)).collect();
        record.push(embed);
        let free = subject.run(&Request { record: &record, ..Request::of(sample.tokens()) })?;
        let embedded = free.values.get(&embed).ok_or(AnalysisError::NotRecorded { point: embed })?;
        record.pop();
        for (at, disturbance) in Disturbance::ALL.into_iter().enumerate() {
            let seed = seed.index(number as u64).index(at as u64);
            let disturbed = disturbance.of(sample, embedded, seed)?;
            let request =
                Request { record: &record, edits: &disturbed.edits, ..Request::of(&disturbed.tokens) };
            let seen = subject.run(&request)?;
            all[at].add(sample, &places, &disturbed, (&free, &seen))?;
        }
    }
    let mut found = (Vec::new(), Vec::new());
    for (sums, disturbance) in all.iter().zip(Disturbance::ALL) {
        for tokens in Tokens::ALL {
            found.0.extend(sums.shift(disturbance, tokens, resampling)?);
            for (layer, _) in &layers {
                found.1.extend(sums.routes(disturbance, tokens, *layer, resampling)?);
            }
        }
    }
    Ok(found)
}

/// Where the choices of a layer are recorded.
fn chosen(layer: usize) -> HookPoint {
    HookPoint::block(Site::RouterIndices, layer)
}

/// Routed layers and their experts, evenly spaced where there are many.
fn layers(subject: &dyn Subject) -> Vec<(usize, usize)> {
    let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
        FeedForwardShape::Routed { experts, .. } => Some((layer, *experts)),
        FeedForwardShape::Dense { .. } => None,
    };
    let all: Vec<(usize, usize)> = subject.shape().feed_forward.iter().enumerate().filter_map(of).collect();
    let count = all.len().min(LAYERS);
    (0..count).map(|at| all[at * all.len() / count]).collect()
}

/// Chosen experts of every token of a layer.
fn routes(seen: &Observation, layer: usize) -> Result<(&Value, &[i64]), AnalysisError> {
    let missing = AnalysisError::NotRecorded { point: chosen(layer) };
    let found = seen.values.get(&chosen(layer)).and_then(|value| Some((value, value.integer()?)));
    found.ok_or(missing)
}

impl Sums {
    /// Nothing seen of so many documents; layers with their experts.
    fn new(documents: usize, layers: &[(usize, usize)]) -> Sums {
        let none = || [vec![(0.0, 0.0); documents], vec![(0.0, 0.0); documents]];
        let loads =
            |experts: usize| [vec![vec![0.0; experts]; documents], vec![vec![0.0; experts]; documents]];
        Sums {
            loss: none(),
            shared: layers.iter().map(|layer| (layer.0, none())).collect(),
            per_token: BTreeMap::new(),
            loads: layers.iter().map(|layer| (layer.0, loads(layer.1))).collect(),
        }
    }

    /// One more sample, as it is and disturbed.
    fn add(
        &mut self,
        sample: &Sample,
        places: &BTreeMap<u32, usize>,
        disturbed: &Disturbed,
        (free, seen): (&Observation, &Observation),
    ) -> Result<(), AnalysisError> {
        let group = |token: usize| usize::from(!disturbed.touched[token]);
        let same = |token: usize| disturbed.tokens.ids()[token] == sample.tokens().ids()[token];
        for (row, document) in predicted(sample).into_iter().filter(|(row, _)| same(row + 1)) {
            let entry = &mut self.loss[group(row)][places[&document]];
            entry.0 += loss_at(sample, seen, row) - loss_at(sample, free, row);
            entry.1 += 1.0;
        }
        for (layer, shared) in &mut self.shared {
            let ((value, before), (_, after)) = (routes(free, *layer)?, routes(seen, *layer)?);
            let per_token = value.columns();
            self.per_token.insert(*layer, per_token as f64);
            let [loads_before, loads_after] = self.loads.get_mut(layer).expect("the same layers have loads");
            for (token, document) in sample.documents().iter().enumerate() {
                let place = places[document];
                let [before, after] =
                    [before, after].map(|all| &all[token * per_token..(token + 1) * per_token]);
                let entry = &mut shared[group(token)][place];
                entry.0 += before.iter().filter(|expert| after.contains(expert)).count() as f64;
                entry.1 += per_token as f64;
                before.iter().for_each(|expert| loads_before[place][*expert as usize] += 1.0);
                after.iter().for_each(|expert| loads_after[place][*expert as usize] += 1.0);
            }
        }
        Ok(())
    }

    /// None where no token is of the kind.
    fn shift(
        &self,
        disturbance: Disturbance,
        tokens: Tokens,
        resampling: Resampling,
    ) -> Result<Option<Shift>, AnalysisError> {
        let loss = ratio(&self.loss[tokens as usize], resampling)?;
        Ok(loss.map(|loss| Shift { disturbance, tokens, loss }))
    }

    /// Agreement and loads of one layer; none where no token is of the kind.
    ///
    /// The shift of the load is over all tokens, touched or not: a load has no kinds of token.
    fn routes(
        &self,
        disturbance: Disturbance,
        tokens: Tokens,
        layer: usize,
        resampling: Resampling,
    ) -> Result<Option<RouteShift>, AnalysisError> {
        let Some(agreement) = ratio(&self.shared[&layer][tokens as usize], resampling)? else {
            return Ok(None);
        };
        let [before, after] = &self.loads[&layer];
        let all: Vec<usize> = (0..before.len()).collect();
        let shares = [before, after].map(|loads| shares(loads, &all));
        // A token's slots are distinct experts: the shares of tokens are k times those of slots, of both sides; and the sum is over k.
        let chance =
            shares[0].iter().zip(&shares[1]).map(|(p, q)| p * q).sum::<f64>() * self.per_token[&layer];
        let distance =
            |drawn: &[usize]| total_variation(&self::shares(before, drawn), &self::shares(after, drawn));
        let load_shift = bootstrap(before.len(), distance, resampling)?;
        Ok(Some(RouteShift { disturbance, tokens, layer, agreement, chance, load_shift }))
    }
}

/// Mean of sums over counts, with documents as units; none where nothing was counted in more than one document; no interval where it was in fewer than four.
fn ratio(sums: &[(f64, f64)], resampling: Resampling) -> Result<Option<Bootstrap>, AnalysisError> {
    let some: Vec<(f64, f64)> = sums.iter().copied().filter(|entry| entry.1 > 0.0).collect();
    if some.len() < 2 {
        return Ok(None);
    }
    let of = |drawn: &[usize]| {
        let (sum, count) = drawn.iter().fold((0.0, 0.0), |a, at| (a.0 + some[*at].0, a.1 + some[*at].1));
        sum / count
    };
    bootstrap(some.len(), of, resampling).map(Some)
}

/// Share of the slots of some documents that each expert has.
pub(super) fn shares(loads: &[Vec<f64>], documents: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; loads[0].len()];
    for document in documents {
        sums.iter_mut().zip(&loads[*document]).for_each(|(sum, load)| *sum += load);
    }
    let all: f64 = sums.iter().sum();
    sums.into_iter().map(|sum| sum / all).collect()
}

/// Half of the sum of the differences.
pub(crate) fn total_variation(first: &[f64], second: &[f64]) -> f64 {
    first.iter().zip(second).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

//! The passes of a knockout, and their sums over documents.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, Observation, Request, Site, Subject};

use super::matched::Loads;
use super::{ExpertId, METHOD};
use crate::next_token::{divergences, logits_point, loss_at, predicted};
use crate::{AnalysisError, Sample, check};

/// Sums over the predicted tokens of each document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Effects {
    /// Predicted tokens: `[document]`.
    pub(super) tokens: Vec<f64>,
    /// Loss of the unedited model, nats: `[document]`.
    pub(super) free_loss: Vec<f64>,
    /// Loss under each list of edits minus that of the unedited model, nats: `[list][document]`.
    pub(super) loss: Vec<Vec<f64>>,
    /// Divergence from the unedited model, nats: `[list][document]`; no list where only losses were asked for.
    pub(super) kl: Vec<Vec<f64>>,
}

/// Asks the subject, sample after sample.
pub(super) struct Passes<'p> {
    subject: &'p mut dyn Subject,
    samples: &'p [Sample],
    tell: &'p mut dyn FnMut(usize, usize),
    done: usize,
    all: usize,
    /// Place of each document in the sums; ascending by document.
    places: BTreeMap<u32, usize>,
    /// What the unedited model loses on each sample, once it was asked for that alone.
    free: Vec<Option<Observation>>,
}

impl<'p> Passes<'p> {
    /// Numbers the documents in which a token is predicted.
    pub(super) fn new(
        subject: &'p mut dyn Subject,
        samples: &'p [Sample],
        tell: &'p mut dyn FnMut(usize, usize),
    ) -> Result<Passes<'p>, AnalysisError> {
        let mut places: BTreeMap<u32, usize> =
            samples.iter().flat_map(predicted).map(|(_, document)| (document, 0)).collect();
        places.values_mut().enumerate().for_each(|(place, entry)| *entry = place);
        check::documents(METHOD, places.len())?;
        let free = vec![None; samples.len()];
        Ok(Passes { subject, samples, tell, done: 0, all: 0, places, free })
    }

    /// Says how many passes there will be.
    pub(super) fn announce(&mut self, all: usize) {
        self.all = all;
    }

    fn run(
        &mut self,
        sample: &Sample,
        record: &[HookPoint],
        edits: &[Edit],
    ) -> Result<Observation, AnalysisError> {
        let seen = self.subject.run(&Request { record, edits, ..Request::of(sample.tokens()) })?;
        self.done += 1;
        (self.tell)(self.done, self.all);
        let wanted = sample.tokens().len() - sample.tokens().batch();
        check::same_length(METHOD, "loss", seen.loss.len(), wanted)?;
        Ok(seen)
    }

    /// Share of tokens that choose each expert of the layers of `experts`, in the unedited model.
    pub(super) fn loads(&mut self, experts: &[ExpertId]) -> Result<Loads, AnalysisError> {
        let counts = self.subject.shape().feed_forward.clone();
        let of = |layer: usize| match counts[layer] {
            moescope_base::FeedForwardShape::Routed { experts, .. } => vec![0.0; experts],
            moescope_base::FeedForwardShape::Dense { .. } => Vec::new(),
        };
        let mut loads: Loads = experts.iter().map(|id| (id.layer, of(id.layer))).collect();
        let points: Vec<HookPoint> =
            loads.keys().map(|l| HookPoint::block(Site::RouterIndices, *l)).collect();
        let mut tokens = 0;
        for sample in self.samples {
            let seen = self.run(sample, &points, &[])?;
            tokens += sample.tokens().len();
            for (point, loads) in points.iter().zip(loads.values_mut()) {
                let value = seen.values.get(point).and_then(|value| value.integer());
                let chosen = value.ok_or(AnalysisError::NotRecorded { point: *point })?;
                chosen.iter().for_each(|expert| loads[*expert as usize] += 1.0);
            }
        }
        loads.values_mut().flatten().for_each(|load| *load /= tokens as f64);
        Ok(loads)
    }

    /// What each list of edits changes.
    pub(super) fn effects(&mut self, lists: &[Vec<Edit>]) -> Result<Effects, AnalysisError> {
        let mut effects = self.none(lists.len());
        effects.kl = effects.loss.clone();
        for sample in self.samples {
            let free = self.run(sample, &[logits_point()], &[])?;
            self.add_free(&mut effects, sample, &free);
            for (list, edits) in lists.iter().enumerate() {
                let edited = self.run(sample, &[logits_point()], edits)?;
                self.add(&mut effects.loss[list], sample, &free, &edited);
                let rows = predicted(sample);
                for ((_, document), kl) in rows.iter().zip(divergences(&free, &edited, &rows)?) {
                    effects.kl[list][self.places[document]] += kl;
                }
            }
        }
        Ok(effects)
    }

    /// The same without divergences, which take longer than the passes; the unedited model runs once, however often this is asked.
    pub(super) fn losses(&mut self, lists: &[Vec<Edit>]) -> Result<Effects, AnalysisError> {
        let mut effects = self.none(lists.len());
        for (place, sample) in self.samples.iter().enumerate() {
            let free = match self.free[place].take() {
                Some(free) => free,
                None => self.run(sample, &[], &[])?,
            };
            self.add_free(&mut effects, sample, &free);
            for (list, edits) in lists.iter().enumerate() {
                let edited = self.run(sample, &[], edits)?;
                self.add(&mut effects.loss[list], sample, &free, &edited);
            }
            self.free[place] = Some(free);
        }
        Ok(effects)
    }

    /// Sums of nothing, for so many lists of edits.
    fn none(&self, lists: usize) -> Effects {
        let none = vec![0.0; self.places.len()];
        let loss = vec![none.clone(); lists];
        Effects { tokens: none.clone(), free_loss: none, loss, kl: Vec::new() }
    }

    fn add_free(&self, effects: &mut Effects, sample: &Sample, free: &Observation) {
        for (row, document) in predicted(sample) {
            let place = self.places[&document];
            effects.tokens[place] += 1.0;
            effects.free_loss[place] += loss_at(sample, free, row);
        }
    }

    fn add(&self, sums: &mut [f64], sample: &Sample, free: &Observation, edited: &Observation) {
        for (row, document) in predicted(sample) {
            sums[self.places[&document]] += loss_at(sample, edited, row) - loss_at(sample, free, row);
        }
    }
}

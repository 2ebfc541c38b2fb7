//! The passes of a knockout, and their sums over documents.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, Observation, Request, Site, Subject};
use rayon::prelude::*;

use super::matched::Loads;
use super::{ExpertId, METHOD};
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
    /// Divergence from the unedited model, nats: `[list][document]`.
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
        check::at_least(METHOD, "documents", places.len(), 2)?;
        Ok(Passes { subject, samples, tell, done: 0, all: 0, places })
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
        let none = vec![0.0; self.places.len()];
        let mut effects = Effects {
            tokens: none.clone(),
            free_loss: none.clone(),
            loss: vec![none.clone(); lists.len()],
            kl: vec![none; lists.len()],
        };
        for sample in self.samples {
            let free = self.run(sample, &[logits_point()], &[])?;
            let rows = predicted(sample);
            for (row, document) in &rows {
                let place = self.places[document];
                effects.tokens[place] += 1.0;
                effects.free_loss[place] += loss_at(sample, &free, *row);
            }
            for (list, edits) in lists.iter().enumerate() {
                let edited = self.run(sample, &[logits_point()], edits)?;
                let kl = divergences(&free, &edited, &rows)?;
                for ((row, document), kl) in rows.iter().zip(kl) {
                    let place = self.places[document];
                    effects.loss[list][place] +=
                        loss_at(sample, &edited, *row) - loss_at(sample, &free, *row);
                    effects.kl[list][place] += kl;
                }
            }
        }
        Ok(effects)
    }
}

fn logits_point() -> HookPoint {
    HookPoint::global(Site::Logits)
}

/// Tokens after which another of the same document and sequence stands, with their document.
fn predicted(sample: &Sample) -> Vec<(usize, u32)> {
    let positions = sample.tokens().positions();
    let documents = sample.documents();
    let followed =
        |row: &usize| !(row + 1).is_multiple_of(positions) && documents[*row] == documents[row + 1];
    (0..documents.len()).filter(followed).map(|row| (row, documents[row])).collect()
}

/// Loss after the token of a row.
fn loss_at(sample: &Sample, seen: &Observation, row: usize) -> f64 {
    let positions = sample.tokens().positions();
    f64::from(seen.loss[row / positions * (positions - 1) + row % positions])
}

/// Divergence of the edited next-token distribution from the free one after each row, nats.
fn divergences(
    free: &Observation,
    edited: &Observation,
    rows: &[(usize, u32)],
) -> Result<Vec<f64>, AnalysisError> {
    let logits = |seen: &'_ Observation| {
        let value = seen.values.get(&logits_point()).cloned();
        value.ok_or(AnalysisError::NotRecorded { point: logits_point() })
    };
    let (free, edited) = (logits(free)?, logits(edited)?);
    let vocab = free.columns();
    let (free, edited) = (free.real().unwrap_or(&[]), edited.real().unwrap_or(&[]));
    check::same_length(METHOD, "logits under the edit", edited.len(), free.len())?;
    let at = |row: usize| row * vocab..(row + 1) * vocab;
    Ok(rows.par_iter().map(|(row, _)| divergence(&free[at(*row)], &edited[at(*row)])).collect())
}

/// KL of the distribution of `edited` logits from that of `free` ones: Σ p (ln p − ln q), nats.
fn divergence(free: &[f32], edited: &[f32]) -> f64 {
    let (above_free, above_edited) = (log_sum(free), log_sum(edited));
    let pairs =
        free.iter().zip(edited).map(|(f, e)| (f64::from(*f) - above_free, f64::from(*e) - above_edited));
    // An impossible token adds nothing, and rounding must not make a divergence negative.
    pairs.map(|(p, q)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }).sum::<f64>().max(0.0)
}

/// Logarithm of the sum of the exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Tokens;

    #[test]
    fn a_divergence_by_hand() {
        // From (1/2, 1/2) to (1/4, 3/4).
        let wanted = 0.5 * (2f64).ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((divergence(&[0.0, 0.0], &[0.0, 3f32.ln()]) - wanted).abs() < 1e-7);
        assert_eq!(divergence(&[1.0, 2.0, -5.0], &[1.0, 2.0, -5.0]), 0.0);
        assert!(divergence(&[1.0, 2.0], &[8.0, 9.0]).abs() < 1e-9, "a shift of all changes nothing");
        assert_eq!(divergence(&[0.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]), 0.0);
    }

    #[test]
    fn nothing_is_predicted_across_a_border() {
        let tokens = Tokens::new(vec![0; 8], 2, 4).unwrap();
        let sample = Sample::new(tokens, vec![5, 5, 6, 6, 7, 7, 7, 7]).unwrap();
        assert_eq!(predicted(&sample), [(0, 5), (2, 6), (4, 7), (5, 7), (6, 7)]);
    }
}

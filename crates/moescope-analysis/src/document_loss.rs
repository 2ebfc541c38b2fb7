//! Loss document by document, of a model as it is and of one that was changed.
//!
//! Instruments that change a model ask for the loss of one text many times. Documents are the units: sums over the predicted tokens of each are
//! kept, so that differences between two runs are paired by document, and an interval resamples documents. Where something is decided by the
//! loss, documents in turn decide and judge.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, Observation, Request, Subject};

use crate::next_token::{loss_at, predicted};
use crate::statistics::{Bootstrap, LEAST_UNITS, Resampling, bootstrap};
use crate::{AnalysisError, Sample, check};

/// A predicted token: its row in the batch, and the place of its document.
pub(crate) type Predicted = (usize, usize);
/// Hears what was recorded in a pass, and the predicted tokens.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(&Observation, &[Predicted]);

/// A text whose loss is asked for again and again; documents are numbered in ascending order.
pub(crate) struct Judged<'s> {
    method: &'static str,
    samples: &'s [Sample],
    /// Predicted tokens of each sample, with the place of their document.
    rows: Vec<Vec<Predicted>>,
    /// Predicted tokens: `[document]`.
    pub(crate) tokens: Vec<f64>,
    /// Numbers of the documents in the text: `[document]`.
    pub(crate) documents: Vec<u32>,
}

impl<'s> Judged<'s> {
    /// Numbers the documents in which a token is predicted, of which at least as many are needed as an interval needs.
    pub(crate) fn new(method: &'static str, samples: &'s [Sample]) -> Result<Judged<'s>, AnalysisError> {
        let mut places: BTreeMap<u32, usize> =
            samples.iter().flat_map(predicted).map(|(_, document)| (document, 0)).collect();
        places.values_mut().enumerate().for_each(|(place, entry)| *entry = place);
        check::documents(method, places.len())?;
        let rows: Vec<Vec<Predicted>> = samples
            .iter()
            .map(|sample| predicted(sample).into_iter().map(|(row, d)| (row, places[&d])).collect())
            .collect();
        let mut tokens = vec![0.0; places.len()];
        rows.iter().flatten().for_each(|(_, place)| tokens[*place] += 1.0);
        Ok(Judged { method, samples, rows, tokens, documents: places.into_keys().collect() })
    }

    /// Loss of each document under these edits, summed over its predicted tokens, nats: `[document]`.
    ///
    /// # Errors
    /// If the subject cannot answer, or a loss is not finite.
    pub(crate) fn losses(
        &self,
        subject: &mut dyn Subject,
        edits: &[Edit],
    ) -> Result<Vec<f64>, AnalysisError> {
        self.pass(subject, &[], edits, &mut |_, _| {})
    }

    /// The same, with edits of its own for each sample.
    pub(crate) fn losses_by_sample(
        &self,
        subject: &mut dyn Subject,
        edits: &[Vec<Edit>],
    ) -> Result<Vec<f64>, AnalysisError> {
        check::same_length(self.method, "edits of samples", edits.len(), self.samples.len())?;
        self.passes(subject, &[], &|sample| &edits[sample], &mut |_, _| {})
    }

    /// The same, and `tell` hears of each pass what was recorded, and the predicted tokens with the places of their documents.
    pub(crate) fn pass(
        &self,
        subject: &mut dyn Subject,
        record: &[HookPoint],
        edits: &[Edit],
        tell: Tell<'_>,
    ) -> Result<Vec<f64>, AnalysisError> {
        self.passes(subject, record, &|_| edits, tell)
    }

    fn passes<'e>(
        &self,
        subject: &mut dyn Subject,
        record: &[HookPoint],
        edits: &dyn Fn(usize) -> &'e [Edit],
        tell: Tell<'_>,
    ) -> Result<Vec<f64>, AnalysisError> {
        let mut sums = vec![0.0; self.tokens.len()];
        for (number, (sample, rows)) in self.samples.iter().zip(&self.rows).enumerate() {
            let request = Request { record, edits: edits(number), ..Request::of(sample.tokens()) };
            let seen = subject.run(&request)?;
            let wanted = sample.tokens().len() - sample.tokens().batch();
            check::same_length(self.method, "loss", seen.loss.len(), wanted)?;
            rows.iter().for_each(|(row, place)| sums[*place] += loss_at(sample, &seen, *row));
            tell(&seen, rows);
        }
        check::finite(self.method, &sums)?;
        Ok(sums)
    }

    /// Documents in turn: those that may decide something, and those that judge it.
    ///
    /// # Errors
    /// If those that judge are too few for an interval.
    pub(crate) fn halves(&self) -> Result<(Vec<usize>, Vec<usize>), AnalysisError> {
        check::at_least(self.method, "documents", self.tokens.len(), 2 * LEAST_UNITS)?;
        Ok((0..self.tokens.len()).partition(|document| document % 2 == 0))
    }

    /// Mean per predicted token of sums by document, with an interval over these documents.
    ///
    /// Long documents count as much as they have tokens, in the estimate and in each replicate.
    ///
    /// # Errors
    /// If there are fewer than two documents; with fewer than four, the interval is absent.
    pub(crate) fn mean(
        &self,
        sums: &[f64],
        documents: &[usize],
        resampling: Resampling,
    ) -> Result<Bootstrap, AnalysisError> {
        let of = |drawn: &[usize]| {
            let total = |of: &[f64]| drawn.iter().map(|place| of[documents[*place]]).sum::<f64>();
            total(sums) / total(&self.tokens)
        };
        bootstrap(documents.len(), of, resampling)
    }

    /// The mean alone.
    pub(crate) fn estimate(&self, sums: &[f64], documents: &[usize]) -> f64 {
        let total = |of: &[f64]| documents.iter().map(|document| of[*document]).sum::<f64>();
        total(sums) / total(&self.tokens)
    }
}

/// One list minus another, entry by entry.
pub(crate) fn minus(first: &[f64], second: &[f64]) -> Vec<f64> {
    first.iter().zip(second).map(|(a, b)| a - b).collect()
}

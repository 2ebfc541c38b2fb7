//! What the model predicts after each token, and how well.

use moescope_base::{HookPoint, Observation, Request, Subject, SubjectError};
use moescope_engine::log_total;
use rayon::prelude::*;

use crate::next_token::{first_of_largest, last_stream, predicted};
use crate::overhearing::Ear;
use crate::{AnalysisError, Sample};

/// The most probable next token and the loss after every token of a text, batch after batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Predictions {
    /// Id of the most probable next token; of equals the lower one.
    pub(crate) ids: Vec<u32>,
    /// Loss of the token that comes, nats; none where none of the same document comes in the same window.
    pub(crate) losses: Vec<Option<f64>>,
}

/// Tokens whose logits are in memory at a time: those of whole batches are far larger than anything else that is looked at.
const ROWS_AT_ONCE: usize = 256;

impl Predictions {
    /// One pass over the text, as far as the last block; the final norm and the unembedding read its stream some rows at a time.
    ///
    /// # Errors
    /// If the subject cannot answer or leaves the stream out.
    pub(crate) fn of(subject: &mut dyn Subject, samples: &[Sample]) -> Result<Predictions, AnalysisError> {
        let point = last_stream(subject);
        let mut found = Predictions::default();
        for sample in samples {
            let seen = subject.run(&Request::recording(sample.tokens(), &[point]))?;
            let stream = seen.values.get(&point).and_then(|value| value.real());
            found.add(subject, sample, stream.ok_or(AnalysisError::NotRecorded { point })?)?;
        }
        Ok(found)
    }

    /// Adds those of a batch, from the stream after its last block.
    fn add(
        &mut self,
        subject: &mut dyn Subject,
        sample: &Sample,
        stream: &[f32],
    ) -> Result<(), SubjectError> {
        let (width, vocabulary) = (subject.shape().d_model, subject.shape().vocab);
        let coming = coming(sample);
        for (stream, coming) in stream.chunks(ROWS_AT_ONCE * width).zip(coming.chunks(ROWS_AT_ONCE)) {
            let logits = subject.unembed(stream)?;
            let loss = |(logits, coming): (&[f32], &Option<u32>)| {
                let loss = |id: u32| log_total(logits) - f64::from(logits[id as usize]);
                (first_of_largest(logits), coming.map(loss))
            };
            let rows = logits.par_chunks_exact(vocabulary).zip(coming).map(loss);
            let (ids, losses): (Vec<u32>, Vec<Option<f64>>) = rows.unzip();
            self.ids.extend(ids);
            self.losses.extend(losses);
        }
        Ok(())
    }
}

/// Notes what is predicted while a text passes for something else.
pub(crate) struct Foretelling<'s> {
    samples: &'s [Sample],
    /// Of the stream after the last block.
    point: [HookPoint; 1],
    /// What was predicted so far.
    pub(crate) found: Predictions,
}

impl<'s> Foretelling<'s> {
    /// For a subject that will be run on each of these samples in turn.
    pub(crate) fn new(subject: &dyn Subject, samples: &'s [Sample]) -> Foretelling<'s> {
        Foretelling { samples, point: [last_stream(subject)], found: Predictions::default() }
    }
}

impl Ear for Foretelling<'_> {
    fn points(&self) -> &[HookPoint] {
        &self.point
    }

    fn hear(
        &mut self,
        subject: &mut dyn Subject,
        batch: usize,
        seen: &Observation,
    ) -> Result<(), AnalysisError> {
        let [point] = self.point;
        let stream = seen.values.get(&point).and_then(|value| value.real());
        let stream = stream.ok_or(AnalysisError::NotRecorded { point })?;
        Ok(self.found.add(subject, &self.samples[batch], stream)?)
    }
}

/// The token that comes after each, where one of the same document comes in the same window.
fn coming(sample: &Sample) -> Vec<Option<u32>> {
    let ids = sample.tokens().ids();
    let mut coming = vec![None; ids.len()];
    predicted(sample).into_iter().for_each(|(row, _)| coming[row] = Some(ids[row + 1]));
    coming
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::next_token::{logits_point, loss_at, most_probable};
    use crate::overhearing::Overheard;
    use crate::planted_model::{VOCAB, model, own_text};
    use moescope_model::ModelSubject;

    #[test]
    fn predictions_are_those_of_whole_passes_whatever_the_batches() {
        let planted = model(2, 3, |_, _| {});
        let samples = [own_text(&planted, 14, 1), own_text(&planted, 3, 2)];
        let mut subject = ModelSubject::new(planted);
        let found = Predictions::of(&mut subject, &samples).unwrap();
        let (mut ids, mut losses) = (Vec::new(), Vec::new());
        for sample in &samples {
            let seen =
                subject.run(&Request { record: &[logits_point()], ..Request::of(sample.tokens()) }).unwrap();
            let logits = seen.values[&logits_point()].real().unwrap();
            ids.extend(logits.chunks_exact(VOCAB).map(|row| most_probable(row, 1)[0]));
            let mut own = vec![None; sample.tokens().len()];
            predicted(sample).iter().for_each(|(row, _)| own[*row] = Some(loss_at(sample, &seen, *row)));
            losses.extend(own);
        }
        assert_eq!((found.ids.len(), &found.ids), (17 * 24, &ids), "more rows than are read at once");
        assert!(ids.iter().any(|id| *id != ids[0]));
        for (found, wanted) in found.losses.iter().zip(&losses) {
            assert!(found.is_some() == wanted.is_some());
            assert!((found.unwrap_or(0.0) - wanted.unwrap_or(0.0)).abs() < 1e-5);
        }
        assert!(losses.iter().flatten().count() > 300 && losses.contains(&None));
        assert_eq!(Predictions::of(&mut subject, &[]).unwrap(), Predictions::default());
    }

    #[test]
    fn predictions_come_along_with_whatever_else_is_asked_for() {
        let planted = model(2, 3, |_, _| {});
        let samples = [own_text(&planted, 4, 1), own_text(&planted, 3, 2)];
        let mut subject = ModelSubject::new(planted);
        let wanted = Predictions::of(&mut subject, &samples).unwrap();
        let last = last_stream(&subject);
        for record in [vec![], vec![last], vec![logits_point()]] {
            let mut foretelling = Foretelling::new(&subject, &samples);
            let mut overheard = Overheard::new(&mut subject, vec![&mut foretelling]);
            for sample in &samples {
                let seen = overheard.run(&Request::recording(sample.tokens(), &record)).unwrap();
                assert_eq!(seen.values.keys().copied().collect::<Vec<_>>(), record);
            }
            assert_eq!(overheard.heard(2), [true]);
            assert_eq!(foretelling.found, wanted);
        }
    }
}

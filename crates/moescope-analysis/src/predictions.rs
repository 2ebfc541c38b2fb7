//! What the model predicts after each token, and how well.

use moescope_base::{Request, Subject};
use moescope_engine::log_total;
use rayon::prelude::*;

use crate::next_token::{first_of_largest, last_stream, predicted};
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
        let (point, width, vocabulary) =
            (last_stream(subject), subject.shape().d_model, subject.shape().vocab);
        let mut found = Predictions::default();
        for sample in samples {
            let seen = subject.run(&Request::recording(sample.tokens(), &[point]))?;
            let stream = seen.values.get(&point).and_then(|value| value.real());
            let stream = stream.ok_or(AnalysisError::NotRecorded { point })?;
            let coming = coming(sample);
            for (stream, coming) in stream.chunks(ROWS_AT_ONCE * width).zip(coming.chunks(ROWS_AT_ONCE)) {
                let logits = subject.unembed(stream)?;
                let loss = |(logits, coming): (&[f32], &Option<u32>)| {
                    let loss = |id: u32| log_total(logits) - f64::from(logits[id as usize]);
                    (first_of_largest(logits), coming.map(loss))
                };
                let rows = logits.par_chunks_exact(vocabulary).zip(coming).map(loss);
                let (ids, losses): (Vec<u32>, Vec<Option<f64>>) = rows.unzip();
                found.ids.extend(ids);
                found.losses.extend(losses);
            }
        }
        Ok(found)
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
}

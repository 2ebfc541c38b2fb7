//! What the model predicts after each token, and how well.

use moescope_base::Request;

use crate::instrument::Material;
use crate::next_token::{last_stream, likeliest, loss_at, predicted};
use crate::{AnalysisError, Sample};

/// The most probable next token and the loss after every token of a text, batch after batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Predictions {
    /// Id of the most probable next token; of equals the lower one.
    pub(crate) ids: Vec<u32>,
    /// Loss of the token that comes, nats; none where none of the same document comes in the same window.
    pub(crate) losses: Vec<Option<f64>>,
}

impl Predictions {
    /// One pass over the text.
    ///
    /// # Errors
    /// If the subject cannot answer.
    pub(crate) fn of(material: &mut Material<'_>) -> Result<Predictions, AnalysisError> {
        let samples: Vec<Sample> = material.samples()?;
        let point = last_stream(material.subject);
        let mut found = Predictions::default();
        for sample in &samples {
            let seen = material.subject.run(&Request { record: &[point], ..Request::of(sample.tokens()) })?;
            found.ids.extend(likeliest(material.subject, &seen)?);
            let mut losses = vec![None; sample.tokens().len()];
            predicted(sample)
                .into_iter()
                .for_each(|(row, _)| losses[row] = Some(loss_at(sample, &seen, row)));
            found.losses.extend(losses);
        }
        Ok(found)
    }
}

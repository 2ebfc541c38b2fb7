//! Loss and accuracy on text.

use moescope_model::Model;
use moescope_train::{Evaluation, evaluate};
use serde::{Deserialize, Serialize};

use crate::StudyError;
use crate::dataset::Pass;

/// How well a language model predicts the validation windows.
///
/// The windows are the same for every model of a study, so losses can be compared in pairs. Across studies of another
/// vocabulary they cannot: a token is then another piece of text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanguageMeasure {
    /// Mean over the domains of their losses, in nats per token: every domain weighs equally.
    pub loss: f64,
    /// `loss_by_domain[domain]`: mean loss over the predicted tokens of each domain, in nats per token.
    pub loss_by_domain: Vec<f64>,
    /// Mean over the domains of the share of right predictions (the most probable token is the next one), 0 to 1.
    pub accuracy: f64,
}

impl LanguageMeasure {
    /// Evaluates all passes. Sums are kept for each domain and divided at the end, so that the cut into passes has no
    /// influence.
    pub(crate) fn of(model: &Model, passes: &[Pass], domains: usize) -> Result<LanguageMeasure, StudyError> {
        let mut losses = vec![Totals::default(); domains];
        for pass in passes {
            losses[pass.domain].add(&evaluate(model, &pass.tokens, pass.tokens.batch())?);
        }
        let loss_by_domain: Vec<f64> = losses.iter().map(|t| t.loss / t.predictions).collect();
        let accuracy = losses.iter().map(|t| t.right / t.predictions).sum::<f64>() / domains as f64;
        Ok(LanguageMeasure { loss: crate::results::mean(&loss_by_domain), loss_by_domain, accuracy })
    }
}

/// Sums over the predictions of one domain: nats, right predictions, predictions.
#[derive(Clone, Default)]
struct Totals {
    loss: f64,
    right: f64,
    predictions: f64,
}

impl Totals {
    fn add(&mut self, evaluation: &Evaluation) {
        let predictions = evaluation.predictions as f64;
        self.loss += evaluation.mean_loss() * predictions;
        self.right += evaluation.accuracy() * predictions;
        self.predictions += predictions;
    }
}

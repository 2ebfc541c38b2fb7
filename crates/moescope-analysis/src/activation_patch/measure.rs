//! How far apart two predictions are: a difference of two logits, and a divergence.
//!
//! The difference of logits is about linear in what is written to the stream, and says which way a prediction goes: to the other text's, or merely away. The divergence looks at the whole
//! prediction, and so also at what both answers have in common. A part that does well by the one and badly by the other changes more than these two tokens.

use moescope_base::Observation;
use moescope_engine::divergence;

use super::cases::Case;
use crate::next_token::logits_point;
use crate::{AnalysisError, recorded};

/// Logits that are read in one run, with the answers of the two texts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    logits: Vec<f32>,
    answers: [usize; 2],
}

impl Reading {
    /// What a run predicts after the reader of a case.
    pub(super) fn of(seen: &Observation, case: &Case) -> Result<Reading, AnalysisError> {
        let logits = recorded::vector(seen, logits_point(), case.reader)?.to_vec();
        Ok(Reading { logits, answers: case.answers })
    }

    /// `logit(a) − logit(b)`, nats.
    pub(super) fn difference(&self) -> f64 {
        let [clean, corrupted] = self.answers;
        f64::from(self.logits[clean]) - f64::from(self.logits[corrupted])
    }

    /// Divergence of this prediction from another: of what the other expects, how much worse this one tells it, nats.
    pub(super) fn from(&self, other: &Reading) -> f64 {
        divergence(&other.logits, &self.logits)
    }
}

/// What the two texts of a case predict: the clean one and the corrupted one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Apart {
    pub(super) clean: Reading,
    pub(super) corrupted: Reading,
}

impl Apart {
    /// Difference of the measure between the two texts, 0 or more.
    pub(super) fn whole(&self) -> f64 {
        self.clean.difference() - self.corrupted.difference()
    }
}

#[cfg(test)]
pub(super) fn reading(logits: &[f32], answers: [usize; 2]) -> Reading {
    Reading { logits: logits.to_vec(), answers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_and_divergences_by_hand() {
        let clean = reading(&[3.0, 1.0, 0.0], [0, 1]);
        let corrupted = reading(&[0.5, 2.0, 0.0], [0, 1]);
        assert_eq!((clean.difference(), corrupted.difference()), (2.0, -1.5));
        let apart = Apart { clean: clean.clone(), corrupted };
        assert_eq!(apart.whole(), 3.5);
        assert_eq!(clean.from(&clean), 0.0);
        // From (1/4, 3/4) to (1/2, 1/2).
        let three = reading(&[0.0, 3f32.ln()], [1, 0]);
        let even = reading(&[1.0, 1.0], [1, 0]);
        let wanted = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((even.from(&three) - wanted).abs() < 1e-6);
    }
}

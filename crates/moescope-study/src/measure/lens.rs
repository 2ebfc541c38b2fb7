use moescope_analysis::logit_lens::{LensLayer, logit_lens};
use moescope_base::{Seed, Subject};
use serde::{Deserialize, Serialize};

use super::samples;
use crate::StudyError;
use crate::dataset::Pass;

/// How near the logit lens is to the final prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LensMeasure {
    /// Divergence of the final prediction from the lens' after each block, in nats; the last is 0.
    pub divergence: Vec<f64>,
    /// Share of tokens with the same most probable token after each block.
    pub agreement: Vec<f64>,
    /// Divergence after the last inner block with the residual stream rotated at random: the control.
    pub rotated: f64,
}

impl LensMeasure {
    /// Divergence after the last block but one; after the only block if there is one.
    pub fn last_inner(&self) -> f64 {
        self.divergence[self.divergence.len().saturating_sub(2)]
    }

    pub(crate) fn of(
        subject: &mut dyn Subject,
        passes: &[Pass],
        seed: Seed,
    ) -> Result<LensMeasure, StudyError> {
        let found = logit_lens(subject, &samples(passes)?, seed.child("lens"))?;
        let of = |pick: fn(&LensLayer) -> f64| found.layers.iter().map(pick).collect::<Vec<f64>>();
        let inner = found.layers.len().saturating_sub(2);
        Ok(LensMeasure {
            divergence: of(|layer| layer.divergence.mean),
            agreement: of(|layer| layer.agreement.mean),
            rotated: found.layers[inner].rotated_divergence.mean,
        })
    }
}

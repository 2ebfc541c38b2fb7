//! The logit lens: how early the residual stream already reads like the prediction.

use moescope_analysis::logit_lens::{LensLayer, logit_lens};
use moescope_base::{Seed, Subject};
use serde::{Deserialize, Serialize};

use super::samples;
use crate::StudyError;
use crate::dataset::Pass;

/// How near the logit lens (final normalisation and unembedding, applied after an earlier block) is to the final
/// prediction.
///
/// - **Does not show:** what an inner block knows in a form that the unembedding cannot read. A large divergence is a
///   failure of the reading, not of the block.
/// - **Source:** nostalgebraist 2020; the control by rotation keeps lengths and removes directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LensMeasure {
    /// `divergence[layer]`: Kullback–Leibler divergence of the final prediction from the lens' after each block, in
    /// nats, from 0; the last is 0.
    pub divergence: Vec<f64>,
    /// `agreement[layer]`: share of tokens with the same most probable token after each block, 0 to 1; the last is 1.
    pub agreement: Vec<f64>,
    /// Divergence in nats after the last inner block with the residual stream rotated at random: the control that a
    /// lens worth its name stays below.
    pub rotated: f64,
}

impl LensMeasure {
    /// Divergence in nats after the last block but one; after the only block if there is one. The block at which
    /// `rotated` was taken.
    pub fn last_inner(&self) -> f64 {
        self.divergence[self.divergence.len().saturating_sub(2)]
    }

    /// Reads the lens on all validation tokens; `seed` draws the rotation.
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

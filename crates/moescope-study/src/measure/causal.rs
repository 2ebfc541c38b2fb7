use moescope_analysis::attribution::{Attribution, AttributionOptions, Replacement, attribution};
use moescope_analysis::statistics::{Bootstrap, BootstrapMethod, Resampling};
use moescope_base::{Seed, Subject};
use serde::{Deserialize, Serialize};

use super::samples;
use crate::dataset::Pass;
use crate::{StudyConfig, StudyError};

/// The study's intervals are over seeds, so those over documents need no precision.
const REPLICATES: usize = 20;

/// How well gradient × difference predicts what an edit of one position does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributionMeasure {
    /// Edits made.
    pub edits: usize,
    /// Correlation of predicted and true effect.
    pub pearson: f64,
    /// Share of edits that change some token's experts.
    pub flip_share: f64,
    /// Relative error of edits that flip a route; none if there are too few.
    pub error_with_flip: Option<f64>,
    /// Relative error of edits that do not; none if there are too few.
    pub error_without_flip: Option<f64>,
    /// Relative error of the edits that flip a route when the routes are held as they were.
    pub frozen_error_with_flip: Option<f64>,
}

impl AttributionMeasure {
    /// What flipping itself costs: error of the same edits with routes free minus with routes held.
    pub fn cost_of_flips(&self) -> Option<f64> {
        Some(self.error_with_flip? - self.frozen_error_with_flip?)
    }

    pub(crate) fn of(
        subject: &mut dyn Subject,
        passes: &[Pass],
        config: &StudyConfig,
        seed: Seed,
    ) -> Result<AttributionMeasure, StudyError> {
        let sequences: usize = passes.iter().map(|pass| pass.tokens.batch()).sum();
        let seed = seed.child("attribution");
        let resampling = Resampling {
            replicates: REPLICATES,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: seed.child("intervals"),
        };
        let options = AttributionOptions {
            rounds: config.instruments.attribution_edits.div_ceil(sequences),
            replacement: Replacement::Mean,
            freeze_routes: true,
            resampling,
            seed,
        };
        Ok(AttributionMeasure::from(&attribution(subject, &samples(passes)?, options)?))
    }
}

impl From<&Attribution> for AttributionMeasure {
    fn from(found: &Attribution) -> AttributionMeasure {
        let estimate = |bootstrap: &Option<Bootstrap>| bootstrap.as_ref().map(|b| b.estimate);
        AttributionMeasure {
            edits: found.edits.len(),
            pearson: found.pearson.estimate,
            flip_share: found.flip_share.estimate,
            error_with_flip: estimate(&found.error_with_flip),
            error_without_flip: estimate(&found.error_without_flip),
            frozen_error_with_flip: estimate(&found.frozen_error_with_flip),
        }
    }
}

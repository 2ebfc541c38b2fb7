//! Attribution against ablation: does the gradient tell what a change inside the model would do?
//!
//! Routing makes the loss jump where a change flips a choice of experts, and a gradient sees no jump. So errors are
//! told apart by whether a route flipped, and the edits are made a second time with the routes held.

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
///
/// An edit replaces the output of attention or of the feed-forward layer at one position by the mean vector of that
/// place. A relative error is mean |predicted − true| over mean |true| of the same edits: 0 is exact, 1 as good as
/// predicting no effect.
///
/// - **Does not show:** that flips cause the larger error of edits that flip; such edits are larger, too. That is
///   what [`AttributionMeasure::cost_of_flips`] is for.
/// - **Source:** attribution patching, Nanda 2023; Syed et al. 2023.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributionMeasure {
    /// Edits made, `instruments.attribution_edits` or a little more.
    pub edits: usize,
    /// Pearson correlation of predicted and true effect over the edits, −1 to 1; 0 if the prediction says nothing.
    pub pearson: f64,
    /// Share of edits that change some token's experts in some layer, 0 to 1; 0 for dense models.
    pub flip_share: f64,
    /// Relative error of edits that flip a route; none if there are too few.
    pub error_with_flip: Option<f64>,
    /// Relative error of edits that do not; none if there are too few.
    pub error_without_flip: Option<f64>,
    /// Relative error of the edits that flip a route when the routes are held as they were: the same edits as in
    /// `error_with_flip`, without the jump.
    pub frozen_error_with_flip: Option<f64>,
}

impl AttributionMeasure {
    /// What flipping itself costs: error of the same edits with routes free minus with routes held. None without
    /// flips; below 0 if holding the routes makes the prediction worse.
    pub fn cost_of_flips(&self) -> Option<f64> {
        Some(self.error_with_flip? - self.frozen_error_with_flip?)
    }

    /// Edits every validation sequence equally often; places are drawn from `seed`, so all families of a seed are
    /// edited at the same places as far as their depths agree.
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
            steps: 0,
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

//! Mutual information, with the bias that every estimate of it has.

use moescope_analysis::specialisation::InformationTest;
use serde::{Deserialize, Serialize};

/// Mutual information between a route and a label, beside its permutation null.
///
/// The plug-in estimate is never negative and grows with the number of distinct values, so a figure without its null
/// says little, least of all for paths, most of which are seen once.
///
/// - **Does not show:** whether the model uses what the route tells, nor whether the label explains the route: a
///   route by token tells the domain too, as far as domains differ in their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Information {
    /// Plug-in estimate, in bits, from 0 to the entropy of the label.
    pub observed: f64,
    /// Mean over the shuffles, in bits: the bias of the estimate at this many tokens and values.
    pub null_mean: f64,
    /// One-sided p-value against the null, at least 1/(permutations + 1). It belongs to one model; claims do not use
    /// it.
    pub p_value: f64,
    /// Excess over the null as a share of what there was left to find above it, 1 if the route names the label; none if
    /// the null already reaches the entropy of the label. The form in which units with very different numbers of values
    /// compare.
    pub adjusted_share: Option<f64>,
}

impl Information {
    /// Estimate minus bias, in bits. Around 0 without information, and then below 0 about as often as above.
    pub fn corrected(&self) -> f64 {
        self.observed - self.null_mean
    }
}

impl From<&InformationTest> for Information {
    fn from(test: &InformationTest) -> Information {
        let comparison = &test.information;
        Information {
            observed: comparison.observed,
            null_mean: comparison.null_mean,
            p_value: comparison.p_value,
            adjusted_share: super::finite(test.adjusted_share()),
        }
    }
}

use moescope_analysis::specialisation::InformationTest;
use serde::{Deserialize, Serialize};

/// Mutual information beside its permutation null.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Information {
    /// Plug-in estimate, in bits.
    pub observed: f64,
    /// Mean of the null: the bias of the estimate.
    pub null_mean: f64,
    /// One-sided p-value against the null.
    pub p_value: f64,
    /// Excess over the null as a share of what there was left to find above it, 1 if the route names the label; none if
    /// the null already reaches the entropy of the label. The form in which units with very different numbers of values
    /// compare.
    pub adjusted_share: Option<f64>,
}

impl Information {
    /// Estimate minus bias, in bits.
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

use serde::{Deserialize, Serialize};

use super::{mean, standard_deviation, student};
use crate::{AnalysisError, check};

/// Whether a paired difference is too small to matter, by two one-sided t-tests.
///
/// - **Unit:** that of the differences; the p-values are probabilities.
/// - **Null:** the mean difference is at least as large as the margin. A small p-value is evidence for *equality
///   within the margin*; a large one is no evidence for a difference.
/// - **Does not show:** anything if the margin was chosen after looking.
/// - **Source:** Schuirmann 1987.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// Largest difference that counts as none.
    pub margin: f64,
    /// Mean difference.
    pub mean: f64,
    /// Lower end of the 90 % t-interval, which lies within the margin exactly when `p_value` is below 0.05.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// p-value against a mean of at most −margin.
    pub p_lower: f64,
    /// p-value against a mean of at least +margin.
    pub p_upper: f64,
    /// The larger of the two.
    pub p_value: f64,
}

impl Equivalence {
    /// Whether the difference is decided to lie within the margin at this level.
    pub fn holds(&self, level: f64) -> bool {
        self.p_value < level
    }
}

/// Tests `differences[seed]` for equivalence within a margin that was fixed in advance.
///
/// # Errors
/// If the margin is not positive, or there are fewer than two differences or one that is not finite.
pub fn tost(differences: &[f64], margin: f64) -> Result<Equivalence, AnalysisError> {
    let method = "equivalence test";
    check::in_range(method, "margin", margin, margin > 0.0 && margin.is_finite(), "a positive number")?;
    check::at_least(method, "differences", differences.len(), 2)?;
    check::finite(method, differences)?;
    let (mean, freedom) = (mean(differences), (differences.len() - 1) as f64);
    let error = standard_deviation(differences) / (differences.len() as f64).sqrt();
    let reach = student::quantile(0.95, freedom) * error;
    let p_lower = student::upper_tail((mean + margin) / error, freedom);
    let p_upper = student::upper_tail((margin - mean) / error, freedom);
    let p_value = p_lower.max(p_upper);
    Ok(Equivalence { margin, mean, low: mean - reach, high: mean + reach, p_lower, p_upper, p_value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: [f64; 5] = [-0.11, -0.05, -0.20, -0.08, -0.02];

    #[test]
    fn agrees_with_scipy() {
        let e = tost(&D, 0.2).unwrap();
        let found = [e.p_lower, e.p_upper, e.low, e.high];
        let wanted = [0.0124861516338, 0.000349113621377, -0.157846118088, -0.0261538819122];
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-9, "{f} instead of {w}");
        }
        assert!(e.holds(0.05) && !e.holds(0.01));
    }

    #[test]
    fn noise_is_not_equality() {
        assert!(!tost(&[1.0, -1.0, 0.5, -0.4], 0.1).unwrap().holds(0.05));
    }

    #[test]
    fn identical_models_are_equal_and_a_margin_must_be_positive() {
        assert_eq!(tost(&[0.0; 3], 0.01).unwrap().p_value, 0.0);
        assert_eq!(tost(&[0.5; 3], 0.01).unwrap().p_value, 1.0);
        assert!(tost(&D, 0.0).is_err() && tost(&D, f64::NAN).is_err() && tost(&[0.1], 1.0).is_err());
    }

    proptest! {
        #[test]
        fn the_interval_decides_as_the_test_does(d in prop::collection::vec(-1.0..1.0f64, 2..9), margin in 0.05..2.0f64) {
            let e = tost(&d, margin).unwrap();
            let inside = e.low > -margin && e.high < margin;
            prop_assert!(inside == e.holds(0.05) || (e.p_value - 0.05).abs() < 1e-6);
        }

        #[test]
        fn a_wider_margin_is_easier(d in prop::collection::vec(-1.0..1.0f64, 2..9), margin in 0.05..2.0f64) {
            prop_assert!(tost(&d, margin).unwrap().p_value >= tost(&d, 1.5 * margin).unwrap().p_value);
        }
    }
}

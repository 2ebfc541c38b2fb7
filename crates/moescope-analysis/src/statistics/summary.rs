use serde::{Deserialize, Serialize};

use super::student;
use crate::{AnalysisError, check};

/// Mean of independent values with its 95 % t-interval and the t-test against zero.
///
/// - **Unit:** that of the values; the p-value is a probability.
/// - **Null:** the mean is 0.
/// - **Does not show:** how the values scatter beyond their standard deviation; with few seeds, a skewed or
///   two-peaked distribution makes interval and p-value too optimistic.
/// - **Source:** Student 1908.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation, with n − 1.
    pub standard_deviation: f64,
    /// Lower end of the 95 % t-interval of the mean.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Mean over its standard error; infinite when the values agree on something other than 0, NaN when on 0.
    pub t: f64,
    /// Two-sided p-value against mean 0. Without any spread it is the limit: 0, or 1 if the mean is 0.
    pub p_value: f64,
}

/// Summarises independent values, such as one number for each seed.
///
/// # Errors
/// With fewer than two values, or one that is not finite.
pub fn one_sample(values: &[f64]) -> Result<Summary, AnalysisError> {
    check::at_least("t-interval", "values", values.len(), 2)?;
    check::finite("t-interval", values)?;
    let (n, mean, standard_deviation) = (values.len(), mean(values), standard_deviation(values));
    let freedom = (n - 1) as f64;
    let error = standard_deviation / (n as f64).sqrt();
    let reach = student::quantile(0.975, freedom) * error;
    let t = mean / error;
    let p_value = student::two_sided(t, freedom);
    Ok(Summary { n, mean, standard_deviation, low: mean - reach, high: mean + reach, t, p_value })
}

/// Arithmetic mean; NaN of no values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance, with n − 1; NaN of fewer than two values.
///
/// Values that are all equal have variance exactly 0, whatever their mean rounds to.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    if values.iter().all(|v| *v == values[0]) {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// Sample standard deviation, with n − 1; NaN of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    #[test]
    fn agrees_with_scipy() {
        let s = one_sample(&[-0.11, -0.05, -0.20, -0.08, -0.02]).unwrap();
        let found = [s.mean, s.standard_deviation, s.low, s.high, s.t, s.p_value];
        let wanted =
            [-0.092, 0.0690651865993, -0.17775575573, -0.00624424427039, -2.9786099779, 0.0407949491659];
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-9, "{f} instead of {w}");
        }
    }

    #[test]
    fn equal_values_have_a_decided_p_value() {
        assert_eq!(one_sample(&[0.1; 3]).unwrap().p_value, 0.0);
        let zero = one_sample(&[0.0; 3]).unwrap();
        assert_eq!((zero.p_value, zero.low, zero.high), (1.0, 0.0, 0.0));
    }

    #[test]
    fn one_value_and_a_value_that_is_no_number_are_refused() {
        assert!(matches!(one_sample(&[1.0]), Err(AnalysisError::TooFew { found: 1, .. })));
        assert!(matches!(one_sample(&[1.0, f64::NAN]), Err(AnalysisError::NotFinite { index: 1, .. })));
        assert!(variance(&[1.0]).is_nan());
    }

    /// A sum of twelve uniform draws is close to normal, so the t-test keeps its level.
    #[test]
    fn the_test_keeps_its_level_and_the_interval_its_coverage() {
        let mut rng = Seed(11).rng();
        let mut rejected = 0;
        for _ in 0..4000 {
            let values: Vec<f64> =
                (0..5).map(|_| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0).collect();
            let s = one_sample(&values).unwrap();
            assert_eq!(s.p_value < 0.05, s.low > 0.0 || s.high < 0.0);
            rejected += usize::from(s.p_value < 0.05);
        }
        assert!((150..250).contains(&rejected), "{rejected} of 4000 at level 0.05");
    }

    proptest! {
        #[test]
        fn shifting_and_scaling_move_the_interval_along(
            values in prop::collection::vec(-5.0..5.0f64, 2..12), shift in -3.0..3.0f64, scale in 0.1..4.0f64
        ) {
            let a = one_sample(&values).unwrap();
            let b = one_sample(&values.iter().map(|v| scale * v + shift).collect::<Vec<_>>()).unwrap();
            prop_assert!((b.mean - (scale * a.mean + shift)).abs() < 1e-9);
            prop_assert!((b.high - b.low - scale * (a.high - a.low)).abs() < 1e-8 * (1.0 + b.high - b.low));
        }
    }
}

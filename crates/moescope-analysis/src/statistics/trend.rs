use serde::{Deserialize, Serialize};

use super::{Summary, mean, one_sample};
use crate::{AnalysisError, check};

/// Slope of a metric on log2 of a dose, such as granularity.
///
/// A line is fitted to each seed alone, and the t-interval runs over the seeds' slopes. For the same doses in every
/// seed this is the estimate of a mixed model with seed as a random effect on intercept and slope.
///
/// - **Unit:** that of the metric per doubling of the dose.
/// - **Null:** slope 0: the dose does not matter, on average along the line.
/// - **Does not show:** curvature. A metric that rises and falls again may have slope 0; look at the points, and at
///   [`page_trend`](super::page_trend) for order alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Mean slope, interval and t-test over seeds.
    pub summary: Summary,
    /// Least-squares slope of each seed.
    pub slopes: Vec<f64>,
}

/// Fits `by_seed[seed][dose]` on log2 of `doses[dose]`.
///
/// # Errors
/// With fewer than two seeds or two doses, a dose that is not positive, equal doses only, or rows of another length.
pub fn log2_trend(doses: &[f64], by_seed: &[Vec<f64>]) -> Result<Trend, AnalysisError> {
    let method = "trend on log2";
    check::at_least(method, "doses", doses.len(), 2)?;
    let positive = doses.iter().find(|d| **d <= 0.0 || !d.is_finite());
    check::in_range(method, "dose", positive.unwrap_or(&0.0), positive.is_none(), "a positive number")?;
    let logs: Vec<f64> = doses.iter().map(|d| d.log2()).collect();
    if logs.iter().all(|l| *l == logs[0]) {
        return Err(AnalysisError::Constant { method, what: "the dose" });
    }
    for row in by_seed {
        check::same_length(method, "row of a seed", row.len(), doses.len())?;
    }
    let slopes: Vec<f64> = by_seed.iter().map(|row| slope(&logs, row)).collect();
    Ok(Trend { summary: one_sample(&slopes)?, slopes })
}

/// Least-squares slope of `y` on `x`; `x` varies.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let (centre_x, centre_y) = (mean(x), mean(y));
    let covariance: f64 = x.iter().zip(y).map(|(a, b)| (a - centre_x) * (b - centre_y)).sum();
    covariance / x.iter().map(|a| (a - centre_x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOSES: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

    #[test]
    fn the_slope_agrees_with_scipy() {
        let row = vec![3.1, 2.9, 2.95, 2.6, 2.5];
        let trend = log2_trend(&DOSES, &[row.clone(), row]).unwrap();
        assert!((trend.slopes[0] + 0.15).abs() < 1e-12);
    }

    #[test]
    fn a_planted_slope_is_found_under_offsets_of_the_seeds() {
        let row = |offset: f64, slope: f64| DOSES.iter().map(|d| offset + slope * d.log2()).collect();
        let trend = log2_trend(&DOSES, &[row(3.0, -0.10), row(5.0, -0.11), row(1.0, -0.09)]).unwrap();
        assert!((trend.summary.mean + 0.1).abs() < 1e-12 && trend.summary.high < 0.0);
    }

    #[test]
    fn bad_doses_are_refused() {
        let rows = [vec![1.0, 2.0], vec![1.0, 3.0]];
        assert!(log2_trend(&[0.0, 1.0], &rows).is_err());
        assert!(matches!(log2_trend(&[2.0, 2.0], &rows), Err(AnalysisError::Constant { .. })));
        assert!(log2_trend(&[1.0, 2.0, 4.0], &rows).is_err());
    }

    proptest! {
        #[test]
        fn the_unit_of_the_dose_does_not_matter(
            rows in prop::collection::vec(prop::collection::vec(-1.0..1.0f64, 5), 2..5), unit in 0.1..10.0f64
        ) {
            let scaled: Vec<f64> = DOSES.iter().map(|d| unit * d).collect();
            let (a, b) = (log2_trend(&DOSES, &rows).unwrap(), log2_trend(&scaled, &rows).unwrap());
            prop_assert!((a.summary.mean - b.summary.mean).abs() < 1e-9);
        }
    }
}

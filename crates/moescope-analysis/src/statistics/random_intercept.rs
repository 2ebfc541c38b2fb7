use serde::{Deserialize, Serialize};

use super::{mean, student};
use crate::{AnalysisError, check};

/// Slope of a metric on log2 of a dose, with a random intercept for each seed.
///
/// The mixed model `y = a + u_seed + b log2(dose) + e`, fitted by restricted maximum likelihood. For the same doses in every seed the estimate of
/// `b` is the least-squares slope within seeds and its interval an exact t-interval, so nothing is iterated.
///
/// It takes one slope to be true for all seeds: where slopes differ between seeds its interval is too narrow, and
/// [`log2_trend`](super::log2_trend), which lets them differ and is what studies use, is the honest one. It serves where seeds are too few for that.
///
/// - **Unit:** that of the metric per doubling of the dose.
/// - **Null:** slope 0.
/// - **Does not show:** curvature; it enters the residual.
/// - **Source:** Laird and Ware 1982; the balanced case as in Searle, Casella and McCulloch 1992, §4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RandomIntercept {
    /// Slope for each doubling.
    pub slope: f64,
    /// Standard error of the slope.
    pub error: f64,
    /// Degrees of freedom: `seeds × (doses − 1) − 1`.
    pub freedom: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p-value against slope 0.
    pub p_value: f64,
    /// Standard deviation of the residual, in the unit of the metric.
    pub residual: f64,
    /// Standard deviation of the seeds' intercepts, in the unit of the metric; 0 where seeds differ by no more than the residual.
    pub between_seeds: f64,
}

/// Fits `by_seed[seed][dose]` on log2 of `doses[dose]`.
///
/// # Errors
/// With fewer than two seeds or two doses, a dose that is not positive, equal doses only, rows of another length, or a value that is not finite.
pub fn random_intercept_slope(doses: &[f64], by_seed: &[Vec<f64>]) -> Result<RandomIntercept, AnalysisError> {
    let method = "slope with random intercepts";
    check::at_least(method, "seeds", by_seed.len(), 2)?;
    // The trend checks doses and rows.
    super::log2_trend(doses, by_seed)?;
    by_seed.iter().try_for_each(|row| check::finite(method, row))?;
    let logs: Vec<f64> = doses.iter().map(|dose| dose.log2()).collect();
    let (centre, seeds, count) = (mean(&logs), by_seed.len() as f64, doses.len() as f64);
    let x: Vec<f64> = logs.iter().map(|log| log - centre).collect();
    let squares = x.iter().map(|x| x * x).sum::<f64>() * seeds;
    let product = |row: &Vec<f64>| row.iter().zip(&x).map(|(y, x)| x * y).sum::<f64>();
    let slope = by_seed.iter().map(product).sum::<f64>() / squares;
    let means: Vec<f64> = by_seed.iter().map(|row| mean(row)).collect();
    let rest = |(row, centre): (&Vec<f64>, &f64)| {
        row.iter().zip(&x).map(|(y, x)| (y - centre - slope * x).powi(2)).sum::<f64>()
    };
    let freedom = seeds * (count - 1.0) - 1.0;
    let within = by_seed.iter().zip(&means).map(rest).sum::<f64>() / freedom;
    let between = (super::variance(&means) - within / count).max(0.0);
    let error = (within / squares).sqrt();
    let reach = student::quantile(0.975, freedom) * error;
    Ok(RandomIntercept {
        slope,
        error,
        freedom,
        low: slope - reach,
        high: slope + reach,
        p_value: student::two_sided(slope / error, freedom),
        residual: within.sqrt(),
        between_seeds: between.sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use rand::RngExt;

    #[test]
    fn agrees_with_restricted_likelihood_in_scipy() {
        // fixtures/statistics/reference.py maximises the restricted likelihood with SciPy.
        let rows = vec![vec![3.1, 2.9, 2.95, 2.6], vec![3.4, 3.3, 3.05, 3.0], vec![2.9, 2.7, 2.72, 2.5]];
        let fit = random_intercept_slope(&[1.0, 2.0, 4.0, 8.0], &rows).unwrap();
        let found = [fit.slope, fit.error, fit.residual, fit.between_seeds];
        assert!(found.iter().zip(REML).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        assert_eq!(fit.freedom, 8.0);
    }

    #[test]
    fn noise_is_rejected_at_the_stated_rate_whatever_the_seeds_do() {
        let p_value = |seed: u64| {
            let mut rng = Seed(seed).rng();
            let rows: Vec<Vec<f64>> = (0..3)
                .map(|_| {
                    let offset = 20.0 * rng.random::<f64>();
                    (0..5).map(|_| offset + (0..4).map(|_| rng.random::<f64>()).sum::<f64>()).collect()
                })
                .collect();
            random_intercept_slope(&[1.0, 2.0, 4.0, 8.0, 16.0], &rows).unwrap().p_value
        };
        let rate = (0..2_000).filter(|seed| p_value(*seed) <= 0.05).count() as f64 / 2_000.0;
        assert!((0.035..0.066).contains(&rate), "{rate}");
    }

    #[test]
    fn what_makes_no_slope_is_refused() {
        let rows = vec![vec![1.0, 2.0]; 2];
        assert!(random_intercept_slope(&[1.0, 1.0], &rows).is_err());
        assert!(random_intercept_slope(&[1.0, 2.0], &rows[..1]).is_err());
        assert!(random_intercept_slope(&[1.0, 2.0], &[vec![1.0, f64::NAN], vec![1.0, 2.0]]).is_err());
    }

    const REML: [f64; 4] = [-0.136, 0.0197082893782, 0.0763298765439, 0.24061488241];
}

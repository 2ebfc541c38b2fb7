use moescope_base::Seed;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::permutation::quantile;
use super::{mean, standard_deviation};
use crate::{AnalysisError, check};

/// Units that an interval needs.
///
/// Of two units, one replicate in four draws the first alone and one in four the second alone, so that a 95 % interval reaches from the one
/// to the other, whatever the truth is, and leaves the median out half of the time; of three, a quarter of the time. From four units on the
/// ends are quantiles of something. That makes an interval possible, not good: see [`Bootstrap`].
pub const LEAST_UNITS: usize = 4;

/// A statistic with its bootstrap interval.
///
/// With fewer than [`LEAST_UNITS`] units the ends and the standard error are no numbers (NaN): nothing is claimed, and comparisons
/// with them are false.
///
/// - **Unit:** that of the statistic.
/// - **Null:** none; see whether the interval holds the value that the null would give.
/// - **Does not show:** variation over seeds when documents were resampled, nor bias of the statistic. With fewer
///   than about 20 units the interval is too narrow.
/// - **Source:** Efron 1979; BCa: Efron 1987.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Statistic of the data as they are.
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard deviation over replicates.
    pub standard_error: f64,
    /// Independent units that were resampled.
    pub units: usize,
    /// Replicates on which the statistic was defined; the others were left out.
    pub replicates: usize,
}

impl Bootstrap {
    /// An estimate from units that do not make an interval: too few, or none that could be resampled.
    pub(crate) fn without_interval(estimate: f64, units: usize) -> Bootstrap {
        let none = f64::NAN;
        Bootstrap { estimate, low: none, high: none, standard_error: none, units, replicates: 0 }
    }
}

/// How replicates become an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapMethod {
    /// Quantiles of the replicates.
    Percentile,
    /// Quantiles corrected for bias and acceleration; costs one evaluation more for each unit.
    BiasCorrected,
}

/// What to draw, and how to make the interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resampling {
    /// Number of replicates; 1,000 suffice for a 95 % interval.
    pub replicates: usize,
    /// Coverage, such as 0.95.
    pub level: f64,
    /// How replicates become an interval.
    pub method: BootstrapMethod,
    /// Source of the draws.
    pub seed: Seed,
}

/// Resamples `units` independent units; the statistic is given the indices of the drawn units, repeats included.
///
/// With fewer than [`LEAST_UNITS`] the statistic alone is given.
///
/// # Errors
/// With fewer than two units, a level outside (0, 1), a statistic that is not finite on the data, or one that is not
/// finite on more than half of the replicates.
pub fn bootstrap(
    units: usize,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
    resampling: Resampling,
) -> Result<Bootstrap, AnalysisError> {
    let Resampling { replicates, level, method, seed } = resampling;
    check::at_least("bootstrap", "units", units, 2)?;
    check::at_least("bootstrap", "replicates", replicates, 2)?;
    check::in_range("bootstrap", "level", level, level > 0.0 && level < 1.0, "between 0 and 1")?;
    let all: Vec<usize> = (0..units).collect();
    let estimate = statistic(&all);
    check::finite("bootstrap", &[estimate])?;
    if units < LEAST_UNITS {
        return Ok(Bootstrap::without_interval(estimate, units));
    }
    let mut draws = draw(units, &statistic, replicates, seed);
    draws.retain(|x| x.is_finite());
    check::at_least(
        "bootstrap",
        "replicates with a finite statistic",
        draws.len(),
        replicates.div_ceil(2).max(2),
    )?;
    draws.sort_by(f64::total_cmp);
    let ends = match method {
        BootstrapMethod::Percentile => [(1.0 - level) / 2.0, (1.0 + level) / 2.0],
        BootstrapMethod::BiasCorrected => {
            corrected_ends(&draws, estimate, acceleration(units, &statistic), level)
        }
    };
    let [low, high] = ends.map(|p| quantile(&draws, p));
    Ok(Bootstrap {
        estimate,
        low,
        high,
        standard_error: standard_deviation(&draws),
        units,
        replicates: draws.len(),
    })
}

/// Resamples whole documents: `documents[row]` says which one a row belongs to, and the statistic is given rows.
///
/// # Errors
/// As [`bootstrap`], the units being the distinct documents.
pub fn cluster_bootstrap(
    documents: &[u32],
    statistic: impl Fn(&[usize]) -> f64 + Sync,
    resampling: Resampling,
) -> Result<Bootstrap, AnalysisError> {
    let mut rows: Vec<usize> = (0..documents.len()).collect();
    rows.sort_by_key(|row| documents[*row]);
    let clusters: Vec<&[usize]> = rows.chunk_by(|a, b| documents[*a] == documents[*b]).collect();
    let of_rows = |drawn: &[usize]| {
        let rows: Vec<usize> = drawn.iter().flat_map(|cluster| clusters[*cluster]).copied().collect();
        statistic(&rows)
    };
    bootstrap(clusters.len(), of_rows, resampling)
}

/// Statistic of each replicate; each draws from a stream of its own, so threads do not matter.
fn draw(
    units: usize,
    statistic: &(impl Fn(&[usize]) -> f64 + Sync),
    replicates: usize,
    seed: Seed,
) -> Vec<f64> {
    let one = |index: usize| {
        let mut rng = seed.index(index as u64).rng();
        let drawn: Vec<usize> = (0..units).map(|_| rng.random_range(0..units)).collect();
        statistic(&drawn)
    };
    (0..replicates).into_par_iter().map(one).collect()
}

/// A sixth of the skewness of the leave-one-out statistics; 0 where they do not vary or are not defined.
fn acceleration(units: usize, statistic: &(impl Fn(&[usize]) -> f64 + Sync)) -> f64 {
    let without = |left: usize| statistic(&(0..units).filter(|u| *u != left).collect::<Vec<_>>());
    let jackknife: Vec<f64> = (0..units).into_par_iter().map(without).collect();
    let centre = mean(&jackknife);
    let moment = |power| jackknife.iter().map(|x| (centre - x).powi(power)).sum::<f64>();
    let acceleration = moment(3) / (6.0 * moment(2).powf(1.5));
    if acceleration.is_finite() { acceleration } else { 0.0 }
}

/// The two probabilities at which the quantiles of the replicates make a BCa interval.
fn corrected_ends(draws: &[f64], estimate: f64, acceleration: f64, level: f64) -> [f64; 2] {
    let normal = Normal::standard();
    let below = draws.iter().filter(|x| **x < estimate).count() as f64;
    let tied = draws.iter().filter(|x| **x == estimate).count() as f64;
    let n = draws.len() as f64;
    // Held away from 0 and 1, where the correction would be infinite.
    let share = ((below + tied / 2.0) / n).clamp(0.5 / n, 1.0 - 0.5 / n);
    let bias = normal.inverse_cdf(share);
    [(1.0 - level) / 2.0, (1.0 + level) / 2.0].map(|probability| {
        let shifted = bias + normal.inverse_cdf(probability);
        normal.cdf(bias + shifted / (1.0 - acceleration * shifted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEWED: [f64; 12] = [1.0, 1.2, 0.8, 5.0, 1.1, 0.9, 2.5, 1.3, 0.7, 9.0, 1.0, 1.6];

    fn resampling(method: BootstrapMethod, replicates: usize) -> Resampling {
        Resampling { replicates, level: 0.95, method, seed: Seed(1) }
    }

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> f64 + Sync {
        |drawn| drawn.iter().map(|i| values[*i]).sum::<f64>() / drawn.len() as f64
    }

    #[test]
    fn both_methods_agree_with_scipy() {
        let run = |method| bootstrap(12, mean_of(&SKEWED), resampling(method, 20_000)).unwrap();
        let (plain, corrected) = (run(BootstrapMethod::Percentile), run(BootstrapMethod::BiasCorrected));
        assert!((plain.low - 1.0917).abs() < 0.03 && (plain.high - 3.7).abs() < 0.1, "{plain:?}");
        assert!(
            (corrected.low - 1.2583).abs() < 0.03 && (corrected.high - 4.425).abs() < 0.12,
            "{corrected:?}"
        );
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        let mut rng = Seed(9).rng();
        let covered = (0..200)
            .filter(|i| {
                let values: Vec<f64> = (0..30).map(|_| rng.random::<f64>()).collect();
                let options =
                    Resampling { seed: Seed(*i), ..resampling(BootstrapMethod::BiasCorrected, 400) };
                let b = bootstrap(30, mean_of(&values), options).unwrap();
                b.low <= 0.5 && 0.5 <= b.high
            })
            .count();
        assert!((178..200).contains(&covered), "{covered} of 200 at level 0.95");
    }

    #[test]
    fn repeating_every_row_of_a_document_does_not_narrow_the_interval() {
        let documents: Vec<u32> = (0..12).flat_map(|d| [d; 10]).collect();
        let values: Vec<f64> = documents.iter().map(|d| SKEWED[*d as usize]).collect();
        let options = resampling(BootstrapMethod::Percentile, 500);
        let clustered = cluster_bootstrap(&documents, mean_of(&values), options).unwrap();
        let single = bootstrap(12, mean_of(&SKEWED), options).unwrap();
        assert_eq!(clustered.units, 12);
        assert!((clustered.low - single.low).abs() < 1e-9 && (clustered.high - single.high).abs() < 1e-9);
        let blind = bootstrap(120, mean_of(&values), options).unwrap();
        assert!(blind.high - blind.low < 0.5 * (clustered.high - clustered.low));
    }

    #[test]
    fn undefined_replicates_are_left_out_and_an_undefined_statistic_is_refused() {
        let options = resampling(BootstrapMethod::BiasCorrected, 200);
        let partly = bootstrap(8, |d| if d[0] == d[1] { f64::NAN } else { d[0] as f64 }, options).unwrap();
        assert!(partly.replicates < 200 && partly.replicates > 100);
        assert!(bootstrap(8, |_| f64::NAN, options).is_err());
        assert!(bootstrap(1, |_| 1.0, options).is_err());
        assert!(bootstrap(8, |_| 1.0, Resampling { level: 1.0, ..options }).is_err());
    }

    #[test]
    fn too_few_units_have_an_estimate_and_no_interval() {
        for units in 2..LEAST_UNITS {
            let b = bootstrap(units, mean_of(&SKEWED), resampling(BootstrapMethod::Percentile, 100)).unwrap();
            assert!((b.estimate - SKEWED[..units].iter().sum::<f64>() / units as f64).abs() < 1e-12);
            assert!(b.low.is_nan() && b.high.is_nan() && b.standard_error.is_nan() && b.units == units);
        }
        let enough = bootstrap(LEAST_UNITS, mean_of(&SKEWED), resampling(BootstrapMethod::Percentile, 100));
        assert!(enough.unwrap().low.is_finite());
    }

    #[test]
    fn a_statistic_that_does_not_vary_has_an_interval_of_width_zero() {
        let b = bootstrap(8, |_| 2.0, resampling(BootstrapMethod::BiasCorrected, 100)).unwrap();
        assert_eq!((b.low, b.high, b.standard_error), (2.0, 2.0, 0.0));
    }
}

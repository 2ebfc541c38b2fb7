use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use super::spread::{crossing, noncentral_t_cdf};
use super::{mean, variance};
use crate::{AnalysisError, check};

/// A difference in standard deviations, with its 95 % interval.
///
/// - **Unit:** standard deviations: of the *differences* for paired values, else of the values within groups.
/// - **Null:** 0.
/// - **Does not show:** importance. With pairing by seed the deviation is small, so a large number may be a tiny difference of loss; always beside the
///   difference itself.
/// - **Source:** Hedges 1981, with the exact factor against the bias of few values; the interval turns the noncentral t around (Steiger and
///   Fouladi 1997).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EffectSize {
    /// Mean over standard deviation (Cohen's d).
    pub d: f64,
    /// The same, corrected for the bias of few values (Hedges' g).
    pub g: f64,
    /// Lower end of the interval of `d`.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Effect size of paired differences, one for each seed (d_z).
///
/// # Errors
/// With fewer than two differences, one that is not finite, or differences that are all equal.
pub fn paired_effect(differences: &[f64]) -> Result<EffectSize, AnalysisError> {
    let method = "effect size";
    check::at_least(method, "differences", differences.len(), 2)?;
    check::finite(method, differences)?;
    let spread = variance(differences).sqrt();
    check_spread(spread, method)?;
    let n = differences.len() as f64;
    Ok(of(mean(differences) / spread, n.sqrt(), n - 1.0))
}

/// Effect size of the first group minus the second, which share no seed, over the pooled standard deviation.
///
/// # Errors
/// With fewer than two values in a group, one that is not finite, or no spread in either.
pub fn group_effect(first: &[f64], second: &[f64]) -> Result<EffectSize, AnalysisError> {
    let method = "effect size";
    for group in [first, second] {
        check::at_least(method, "values of a group", group.len(), 2)?;
        check::finite(method, group)?;
    }
    let (a, b) = (first.len() as f64, second.len() as f64);
    let freedom = a + b - 2.0;
    let spread = (((a - 1.0) * variance(first) + (b - 1.0) * variance(second)) / freedom).sqrt();
    check_spread(spread, method)?;
    Ok(of((mean(first) - mean(second)) / spread, (a * b / (a + b)).sqrt(), freedom))
}

fn check_spread(spread: f64, method: &'static str) -> Result<(), AnalysisError> {
    match spread > 0.0 {
        true => Ok(()),
        false => Err(AnalysisError::Constant { method, what: "the difference" }),
    }
}

/// `t = d × scale` has a noncentral t distribution with noncentrality `δ × scale`.
fn of(d: f64, scale: f64, freedom: f64) -> EffectSize {
    let t = d * scale;
    // The noncentrality at which so large a t has the given chance; the chance of a smaller one falls with it. With few
    // degrees of freedom the interval reaches far beyond t, and at the most to twice as far and ten.
    let reach = 10.0 + 3.0 * t.abs();
    let noncentrality =
        |chance: f64| crossing(t - reach, t + reach, chance, |x| noncentral_t_cdf(t, freedom, x));
    let half = freedom / 2.0;
    let correction = (ln_gamma(half) - ln_gamma(half - 0.5)).exp() / half.sqrt();
    EffectSize {
        d,
        // With one degree of freedom the bias is infinite, and what is left nothing.
        g: if freedom > 1.0 { d * correction } else { f64::NAN },
        low: noncentrality(0.975) / scale,
        high: noncentrality(0.025) / scale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use rand::RngExt;

    #[test]
    fn agrees_with_scipy() {
        // fixtures/statistics/reference.py solves stats.nct for the noncentrality.
        let found = paired_effect(&[-0.11, -0.05, -0.20, -0.08, -0.02]).unwrap();
        let close = |e: EffectSize, wanted: [f64; 4]| {
            let found = [e.d, e.g, e.low, e.high];
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {wanted:?}");
        };
        close(found, PAIRED);
        let (a, b) = ([2.31, 2.27, 2.45, 2.38, 2.29], [2.52, 2.41, 2.60, 2.47, 2.55, 2.44]);
        close(group_effect(&a, &b).unwrap(), GROUPS);
    }

    #[test]
    fn intervals_cover_at_the_stated_rate_and_no_spread_is_refused() {
        let covers = |seed: &u64| {
            let mut rng = Seed(*seed).rng();
            let normal = |rng: &mut rand_chacha::ChaCha8Rng| {
                let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
                0.8 + (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
            };
            let values: Vec<f64> = (0..6).map(|_| normal(&mut rng)).collect();
            let effect = paired_effect(&values).unwrap();
            effect.low <= 0.8 && 0.8 <= effect.high
        };
        let rate = (0..300).filter(covers).count() as f64 / 300.0;
        assert!((0.91..=0.985).contains(&rate), "{rate}");
        assert!(paired_effect(&[1.0, 1.0]).is_err() && group_effect(&[1.0], &[2.0, 3.0]).is_err());
    }

    const PAIRED: [f64; 4] = [-1.33207487781, -1.06284197884, -2.54563730993, -0.0490556480586];
    const GROUPS: [f64; 4] = [-2.17983193198, -1.99209367096, -3.69174278111, -0.59874149771];
}

//! Averages over the spread that a sample of a normal distribution shows.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

/// Panels of the integral; Simpson's error is then far below 1e-9 for smooth integrands.
const PANELS: usize = 4000;

/// Mean of `f(s)` where `s` is the ratio of sample to true standard deviation with so many degrees of freedom (`ν s²` is χ²).
pub(super) fn over_spread(freedom: f64, f: impl Fn(f64) -> f64) -> f64 {
    let log_norm = std::f64::consts::LN_2 + freedom / 2.0 * (freedom / 2.0).ln() - ln_gamma(freedom / 2.0);
    let density = |s: f64| {
        // A power of 0 is 1 at 0 as well, so one degree of freedom has its half-normal density there.
        let power = if freedom == 1.0 { 0.0 } else { (freedom - 1.0) * s.ln() };
        (log_norm + power - freedom * s * s / 2.0).exp()
    };
    // Ten deviations on either side; the density of s is narrower than 1/√(2ν) times a normal one.
    let reach = 10.0 / freedom.sqrt();
    let (low, high) = ((1.0 - reach).max(0.0), 1.0 + reach);
    let step = (high - low) / PANELS as f64;
    let at = |panel: usize| {
        let s = low + panel as f64 * step;
        let weight = match panel {
            0 | PANELS => 1.0,
            _ if panel % 2 == 1 => 4.0,
            _ => 2.0,
        };
        weight * density(s) * f(s)
    };
    (0..=PANELS).map(at).sum::<f64>() * step / 3.0
}

/// Distribution function of the standard normal distribution.
pub(super) fn normal_cdf(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

/// Probability that a noncentral t of this noncentrality is at most `t`.
///
/// - **Source:** definition of the noncentral t as `(Z + δ)/s`; the mean over `s` is by Simpson's rule.
pub(super) fn noncentral_t_cdf(t: f64, freedom: f64, noncentrality: f64) -> f64 {
    over_spread(freedom, |s| normal_cdf(t * s - noncentrality)).clamp(0.0, 1.0)
}

/// Where a function that falls from above to below `target` over `[low, high]` crosses it, by bisection to rounding.
pub(super) fn crossing(mut low: f64, mut high: f64, target: f64, falling: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..100 {
        let middle = low.midpoint(high);
        if falling(middle) > target {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_density_is_one_and_has_the_known_moments() {
        for freedom in [1.0, 2.0, 4.0, 30.0, 400.0] {
            assert!((over_spread(freedom, |_| 1.0) - 1.0).abs() < 1e-9, "{freedom}");
            assert!((over_spread(freedom, |s| s * s) - 1.0).abs() < 1e-9, "{freedom}");
        }
    }

    #[test]
    fn the_distribution_function_is_that_of_scipy() {
        // stats.nct.cdf, printed by fixtures/statistics/reference.py.
        for (t, freedom, noncentrality, wanted) in NCT {
            let found = noncentral_t_cdf(t, freedom, noncentrality);
            assert!((found - wanted).abs() < 1e-8, "{t} {freedom} {noncentrality}: {found} {wanted}");
        }
    }

    const NCT: [(f64, f64, f64, f64); 7] = [
        (2.0, 4.0, 1.5, 0.61892892514),
        (-1.0, 4.0, 0.5, 0.0861495690366),
        (2.776, 4.0, 3.0, 0.380622270108),
        (12.7, 1.0, 2.0, 0.874716194356),
        (2.1, 18.0, 2.5, 0.342359202364),
        (1.0, 2.0, -1.0, 0.957943736256),
        (4.0, 99.0, 3.0, 0.82951606552),
    ];
}

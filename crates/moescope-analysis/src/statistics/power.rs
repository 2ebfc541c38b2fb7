use super::spread::{crossing, noncentral_t_cdf, normal_cdf, over_spread};
use super::student;
use crate::{AnalysisError, check};

const METHOD: &str = "power";

/// Chance that a paired t-test of `n` differences finds a true mean difference of `effect` standard deviations.
///
/// - **Unit and range:** a probability; at `effect` 0 it is `level`.
/// - **`effect`:** mean difference over the standard deviation of the *differences* (Cohen's d_z), which pairing has made smaller than that of either model.
/// - **Null:** two-sided, at `level`; the wrong side counts as found, which matters for tiny effects alone.
/// - **Does not show:** anything about an effect that was estimated from the same data.
/// - **Source:** noncentral t with noncentrality `effect √n`, Cohen 1988.
///
/// An example: ten differences whose true mean is as large as their standard deviation are found at a level
/// of 0.05 with a chance of about 0.80.
///
/// # Errors
/// With fewer than two differences, or a level outside (0, 1).
pub fn paired_power(n: usize, effect: f64, level: f64) -> Result<f64, AnalysisError> {
    check_plan(n, level)?;
    check::finite(METHOD, &[effect])?;
    let (freedom, shift) = ((n - 1) as f64, effect * (n as f64).sqrt());
    let t = student::quantile(1.0 - level / 2.0, freedom);
    let (below, above) = (noncentral_t_cdf(-t, freedom, shift), noncentral_t_cdf(t, freedom, shift));
    Ok((below + 1.0 - above).clamp(0.0, 1.0))
}

/// Smallest effect, in standard deviations of the differences, that a paired t-test of `n` differences finds with chance `power`.
///
/// # Errors
/// As [`paired_power`], and for a power that is not between `level` and 1.
pub fn detectable_effect(n: usize, level: f64, power: f64) -> Result<f64, AnalysisError> {
    check_plan(n, level)?;
    check::in_range(
        METHOD,
        "power",
        power,
        power > level && power < 1.0,
        "a number between the level and 1",
    )?;
    let missed = |effect: f64| 1.0 - paired_power(n, effect, level).unwrap_or(1.0);
    let mut high = 1.0;
    while missed(high) > 1.0 - power {
        high *= 2.0;
    }
    Ok(crossing(0.0, high, 1.0 - power, missed))
}

/// Chance that two one-sided t-tests of `n` paired differences decide for equivalence within ±`margin`, when the true mean is `effect`; both
/// in standard deviations of the differences.
///
/// - **Unit and range:** a probability, from 0.
/// - **Source:** the exact region `t_low ≥ t` and `t_high ≤ −t` of Schuirmann's test, averaged over the sample's spread (Phillips 1990).
///
/// At a level of 0.05 and a chance of 0.8 a plan for equivalence needs more differences than one for a
/// difference of the same size, and more again where the true mean is not 0: at a true mean at the margin
/// itself, equivalence is found with at most the chance `level`.
///
/// # Errors
/// As [`paired_power`], and for a margin that is not positive.
pub fn equivalence_power(n: usize, margin: f64, effect: f64, level: f64) -> Result<f64, AnalysisError> {
    check_plan(n, level)?;
    check::finite(METHOD, &[effect])?;
    check::in_range(METHOD, "margin", margin, margin > 0.0 && margin.is_finite(), "a positive number")?;
    let (root, freedom) = ((n as f64).sqrt(), (n - 1) as f64);
    let t = student::quantile(1.0 - level, freedom);
    // The mean must lie within the margin by t standard errors; above this spread no mean does.
    let within = |s: f64| {
        let room = margin * root - t * s;
        let shift = effect * root;
        if room <= 0.0 { 0.0 } else { normal_cdf(room - shift) - normal_cdf(-room - shift) }
    };
    Ok(over_spread(freedom, within).clamp(0.0, 1.0))
}

/// Smallest margin, in standard deviations of the differences, within which `n` paired differences of true mean 0 are found equivalent with
/// chance `power`.
///
/// # Errors
/// As [`detectable_effect`].
pub fn equivalence_margin(n: usize, level: f64, power: f64) -> Result<f64, AnalysisError> {
    check_plan(n, level)?;
    check::in_range(METHOD, "power", power, power > 0.0 && power < 1.0, "a number between 0 and 1")?;
    let missed = |margin: f64| 1.0 - equivalence_power(n, margin, 0.0, level).unwrap_or(1.0);
    let mut high = 1.0;
    while missed(high) > 1.0 - power {
        high *= 2.0;
    }
    Ok(crossing(0.0, high, 1.0 - power, missed))
}

fn check_plan(n: usize, level: f64) -> Result<(), AnalysisError> {
    check::at_least(METHOD, "differences", n, 2)?;
    check::in_range(METHOD, "level", level, level > 0.0 && level < 1.0, "a number between 0 and 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{one_sample, tost};
    use moescope_base::Seed;
    use rand::RngExt;

    /// Standard normal numbers, by Box and Muller.
    fn normal(n: usize, mean: f64, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<f64> {
        let one = |rng: &mut rand_chacha::ChaCha8Rng| {
            let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
            mean + (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..n).map(|_| one(rng)).collect()
    }

    #[test]
    fn power_is_that_of_scipys_noncentral_t() {
        for (n, effect, wanted) in PAIRED {
            assert!((paired_power(n, effect, 0.05).unwrap() - wanted).abs() < 1e-7, "{n} {effect}");
        }
        for (n, margin, effect, wanted) in EQUIVALENCE {
            let found = equivalence_power(n, margin, effect, 0.05).unwrap();
            assert!((found - wanted).abs() < 1e-4, "{n} {margin} {effect}: {found}");
        }
    }

    #[test]
    fn the_tests_find_as_often_as_they_promise_and_nothing_at_the_level() {
        let seeds = 4_000;
        let rate = |mean: f64, found: &dyn Fn(&[f64]) -> bool| {
            let one = |seed: &u64| found(&normal(5, mean, &mut Seed(*seed).rng()));
            (0..seeds).filter(one).count() as f64 / seeds as f64
        };
        let t_test = |x: &[f64]| one_sample(x).unwrap().p_value < 0.05;
        let equal = |x: &[f64]| tost(x, 2.0).unwrap().holds(0.05);
        // Three standard errors of 4,000 draws are 0.024 at one half.
        assert!((rate(1.3, &t_test) - paired_power(5, 1.3, 0.05).unwrap()).abs() < 0.025);
        assert!((rate(0.0, &t_test) - 0.05).abs() < 0.011);
        assert!((rate(0.0, &equal) - equivalence_power(5, 2.0, 0.0, 0.05).unwrap()).abs() < 0.025);
        assert!((rate(2.0, &equal) - 0.05).abs() < 0.011);
    }

    #[test]
    fn what_is_detectable_is_detected_and_more_seeds_detect_less() {
        for n in [2, 3, 5, 20] {
            let effect = detectable_effect(n, 0.05, 0.8).unwrap();
            assert!((paired_power(n, effect, 0.05).unwrap() - 0.8).abs() < 1e-6, "{n}");
            let margin = equivalence_margin(n, 0.05, 0.8).unwrap();
            assert!((equivalence_power(n, margin, 0.0, 0.05).unwrap() - 0.8).abs() < 1e-6, "{n}");
        }
        assert!(detectable_effect(3, 0.05, 0.8).unwrap() > detectable_effect(5, 0.05, 0.8).unwrap());
        assert!(detectable_effect(5, 0.05, 0.01).is_err() && detectable_effect(1, 0.05, 0.8).is_err());
        assert!(equivalence_power(5, 0.0, 0.0, 0.05).is_err() && paired_power(5, f64::NAN, 0.05).is_err());
    }

    const PAIRED: [(usize, f64, f64); 7] = [
        (2, 1.0, 0.0928091550563),
        (3, 1.0, 0.179255393777),
        (5, 0.5, 0.14051668999),
        (5, 1.68, 0.799124869502),
        (10, 1.0, 0.803096856633),
        (30, 0.5, 0.753964715744),
        (5, -1.2, 0.53022125114),
    ];
    const EQUIVALENCE: [(usize, f64, f64, f64); 6] = [
        (3, 2.0, 0.0, 0.558044542817),
        (5, 2.0, 0.0, 0.949956852359),
        (5, 1.5, 0.5, 0.56111069231),
        (10, 1.0, 0.0, 0.795207266706),
        (10, 1.0, 0.3, 0.638453405102),
        (30, 0.6, 0.0, 0.882029545908),
    ];
}

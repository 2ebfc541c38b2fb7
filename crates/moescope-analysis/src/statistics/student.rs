use statrs::distribution::{ContinuousCDF, StudentsT};

/// Two-sided p-value of a t statistic; 1 for a statistic that is no number (0/0: no difference and no spread).
pub(crate) fn two_sided(t: f64, freedom: f64) -> f64 {
    (2.0 * upper_tail(t.abs(), freedom)).min(1.0)
}

/// Probability of a larger t; 1 for a statistic that is no number.
pub(crate) fn upper_tail(t: f64, freedom: f64) -> f64 {
    if t.is_nan() {
        return 1.0;
    }
    if t.is_infinite() {
        return if t > 0.0 { 0.0 } else { 1.0 };
    }
    distribution(freedom).sf(t)
}

/// The t below which a share `probability` of the distribution lies; `probability` within (0, 1).
pub(crate) fn quantile(probability: f64, freedom: f64) -> f64 {
    distribution(freedom).inverse_cdf(probability)
}

fn distribution(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom).expect("the degrees of freedom are positive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_tails_agree_with_scipy() {
        for (probability, freedom, wanted) in [
            (0.975, 1.0, 12.7062047362),
            (0.975, 4.0, 2.7764451052),
            (0.975, 30.0, 2.0422724563),
            (0.95, 2.0, 2.91998558035),
        ] {
            assert!((quantile(probability, freedom) - wanted).abs() < 1e-8, "{probability} {freedom}");
        }
        assert!((upper_tail(25.0, 4.0) / 7.59876288166e-6 - 1.0).abs() < 1e-8);
    }

    #[test]
    fn extreme_statistics_have_the_limits_as_p_values() {
        assert_eq!(two_sided(f64::INFINITY, 3.0), 0.0);
        assert_eq!(two_sided(f64::NAN, 3.0), 1.0);
        assert_eq!(upper_tail(f64::NEG_INFINITY, 3.0), 1.0);
    }
}

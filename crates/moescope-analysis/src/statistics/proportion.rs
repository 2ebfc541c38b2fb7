use statrs::distribution::{Beta, ContinuousCDF};

use crate::{AnalysisError, check};

/// How often something happened in independent trials.
///
/// - **Range:** all from 0 to 1.
/// - **Does not show:** what happens in trials of another kind than those that were made.
/// - **Source:** exact interval of Clopper and Pearson 1934; it holds for any number of trials and is rather too wide than too narrow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proportion {
    /// Trials in which it happened.
    pub hits: usize,
    /// Trials.
    pub trials: usize,
    /// Their share.
    pub share: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A share of independent trials with its exact 95 % interval.
///
/// # Errors
/// If there is no trial, or more hits than trials.
pub fn proportion(hits: usize, trials: usize) -> Result<Proportion, AnalysisError> {
    check::at_least("proportion", "trials", trials, 1)?;
    check::in_range("proportion", "number of hits", hits, hits <= trials, "at most the number of trials")?;
    let (k, n) = (hits as f64, trials as f64);
    let quantile = |probability: f64, a: f64, b: f64| {
        Beta::new(a, b).expect("both shapes are positive").inverse_cdf(probability)
    };
    let low = if hits == 0 { 0.0 } else { quantile(0.025, k, n - k + 1.0) };
    let high = if hits == trials { 1.0 } else { quantile(0.975, k + 1.0, n - k) };
    Ok(Proportion { hits, trials, share: k / n, low, high })
}

/// Probability of at least so many hits in independent trials of this share, from 0 to 1.
///
/// # Errors
/// If there are more hits than trials, or the share is not between 0 and 1.
pub fn at_least(hits: usize, trials: usize, share: f64) -> Result<f64, AnalysisError> {
    check::in_range("binomial test", "number of hits", hits, hits <= trials, "at most the number of trials")?;
    check::in_range("binomial test", "share", share, share > 0.0 && share < 1.0, "between 0 and 1")?;
    if hits == 0 {
        return Ok(1.0);
    }
    let (k, n) = (hits as f64, trials as f64);
    Ok(Beta::new(k, n - k + 1.0).expect("both shapes are positive").cdf(share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_scipy() {
        for (hits, trials, low, high) in [
            (0, 20, 0.0, 0.168433470983),
            (20, 20, 0.831566529017, 1.0),
            (3, 20, 0.0320709371855, 0.378926826545),
            (7, 9, 0.399906426284, 0.971855026522),
            (1, 200, 0.000126581028009, 0.0275418984576),
        ] {
            let found = proportion(hits, trials).unwrap();
            assert!((found.low - low).abs() < 1e-9 && (found.high - high).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn chances_agree_with_scipy() {
        let cases = [(5, 20, 0.00257394033465), (7, 20, 3.39461653014e-5), (0, 20, 1.0), (3, 3, 0.000125)];
        for (hits, trials, wanted) in cases {
            let found = at_least(hits, trials, 0.05).unwrap();
            assert!((found / wanted - 1.0).abs() < 1e-7, "{found}, want {wanted}");
        }
        assert!(at_least(4, 3, 0.5).is_err() && at_least(1, 3, 0.0).is_err());
    }

    #[test]
    fn no_trials_and_too_many_hits_are_refused() {
        assert!(proportion(0, 0).is_err() && proportion(3, 2).is_err());
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_share_and_mirrors_for_misses(trials in 1usize..300, part in 0.0..=1.0f64) {
            let hits = (part * trials as f64) as usize;
            let (found, missed) = (proportion(hits, trials).unwrap(), proportion(trials - hits, trials).unwrap());
            prop_assert!(found.low <= found.share && found.share <= found.high);
            prop_assert!((found.low + missed.high - 1.0).abs() < 1e-9);
        }
    }
}

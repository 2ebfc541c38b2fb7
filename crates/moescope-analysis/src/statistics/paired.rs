use serde::{Deserialize, Serialize};

use super::{Summary, one_sample};
use crate::{AnalysisError, check};

/// Difference of two models over the seeds that both were grown from.
///
/// Pairing by seed removes what the seed does to both alike: the data order and its luck.
///
/// - **Unit:** that of the values; first minus second.
/// - **Null:** the mean difference is 0, and each sign is as likely as the other.
/// - **Does not show:** an effect beyond these seeds' population; seeds are not budgets, sizes or data sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Mean, interval and t-test of the differences.
    pub summary: Summary,
    /// First minus second: `differences[seed]`.
    pub differences: Vec<f64>,
    /// Seeds whose difference has the sign of the mean.
    pub sign_consistent: usize,
}

/// Compares two lists that have one value for each seed, in the same order of seeds.
///
/// # Errors
/// If the lists differ in length, have fewer than two values, or one that is not finite.
pub fn paired(first: &[f64], second: &[f64]) -> Result<PairedDifference, AnalysisError> {
    check::same_length("paired difference", "second list", second.len(), first.len())?;
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let summary = one_sample(&differences)?;
    let sign_consistent = differences.iter().filter(|d| **d * summary.mean > 0.0).count();
    Ok(PairedDifference { summary, differences, sign_consistent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_seed_by_seed() {
        let paired = paired(&[1.0, 2.0, 3.5], &[0.5, 2.2, 3.0]).unwrap();
        assert!((paired.summary.mean - 0.8 / 3.0).abs() < 1e-12);
        assert_eq!(paired.sign_consistent, 2);
    }

    #[test]
    fn two_seeds_suffice_and_one_does_not() {
        // With one degree of freedom the reach is 12.706 standard errors of 0.5.
        let two = paired(&[1.0, 2.0], &[0.0, 0.0]).unwrap().summary;
        assert!((two.high - (1.5 + 12.7062047362 * 0.5)).abs() < 1e-8);
        assert!(paired(&[1.0], &[0.0]).is_err());
        assert!(paired(&[1.0, 2.0], &[0.0]).is_err());
    }

    #[test]
    fn what_a_seed_does_to_both_drops_out() {
        let noise = [10.0, -7.0, 3.0, 0.5];
        let first: Vec<f64> = noise.iter().zip([0.1, 0.11, 0.09, 0.1]).map(|(n, d)| n + d).collect();
        let found = paired(&first, &noise).unwrap();
        assert!(found.summary.p_value < 1e-3 && found.sign_consistent == 4);
    }
}

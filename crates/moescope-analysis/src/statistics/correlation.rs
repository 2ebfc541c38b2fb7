use serde::{Deserialize, Serialize};

use super::{mean, student};
use crate::{AnalysisError, check};

/// Correlation of two lists of paired observations.
///
/// - **Unit and range:** pure number, −1 to 1.
/// - **Null:** 0, independent observations; `p_value` by the t approximation with n − 2 degrees of freedom.
/// - **Does not show:** agreement in size: doubling one list changes nothing. The p-value is too small when the
///   observations depend on each other, as tokens of one document do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// Coefficient.
    pub coefficient: f64,
    /// Two-sided p-value against 0; NaN with two observations.
    pub p_value: f64,
    /// Observations.
    pub n: usize,
}

/// Pearson's linear correlation.
///
/// # Errors
/// If the lists differ in length, have fewer than two entries, one that is not finite, or no variation.
pub fn pearson(first: &[f64], second: &[f64]) -> Result<Correlation, AnalysisError> {
    let method = "correlation";
    check::same_length(method, "second list", second.len(), first.len())?;
    check::at_least(method, "observations", first.len(), 2)?;
    check::finite(method, first)?;
    check::finite(method, second)?;
    let (a, b) = (unit_deviations(first, "the first list")?, unit_deviations(second, "the second list")?);
    let coefficient = a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>().clamp(-1.0, 1.0);
    Ok(Correlation { coefficient, p_value: p_value(coefficient, first.len()), n: first.len() })
}

/// Spearman's rank correlation: Pearson's of the ranks, ties sharing their mean rank.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(first: &[f64], second: &[f64]) -> Result<Correlation, AnalysisError> {
    check::finite("correlation", first)?;
    check::finite("correlation", second)?;
    pearson(&midranks(first), &midranks(second))
}

/// Rank of each value, from 1; equal values share the mean of their ranks. `values` are no NaN.
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        for index in tied {
            ranks[*index] = before as f64 + (tied.len() + 1) as f64 / 2.0;
        }
        before += tied.len();
    }
    ranks
}

/// Deviations from the mean, scaled to length 1.
fn unit_deviations(values: &[f64], what: &'static str) -> Result<Vec<f64>, AnalysisError> {
    if values.iter().all(|v| *v == values[0]) {
        return Err(AnalysisError::Constant { method: "correlation", what });
    }
    let centre = mean(values);
    let norm = values.iter().map(|v| (v - centre).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 || !norm.is_finite() {
        return Err(AnalysisError::Constant { method: "correlation", what });
    }
    Ok(values.iter().map(|v| (v - centre) / norm).collect())
}

fn p_value(coefficient: f64, n: usize) -> f64 {
    if n < 3 {
        return f64::NAN;
    }
    let freedom = (n - 2) as f64;
    let t = coefficient * (freedom / (1.0 - coefficient * coefficient)).sqrt();
    student::two_sided(t, freedom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const U: [f64; 6] = [1.0, 2.0, 2.0, 4.0, 7.0, 3.0];
    const V: [f64; 6] = [2.1, 1.9, 3.5, 3.5, 9.0, 4.0];

    #[test]
    fn both_agree_with_scipy() {
        let (linear, ranked) = (pearson(&U, &V).unwrap(), spearman(&U, &V).unwrap());
        assert!((linear.coefficient - 0.936188066068).abs() < 1e-10);
        assert!((linear.p_value - 0.00597802445413).abs() < 1e-9);
        assert!((ranked.coefficient - 0.779411764706).abs() < 1e-10);
        assert!((ranked.p_value - 0.0676219341543).abs() < 1e-9);
    }

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(midranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(midranks(&[0.0, -0.0]), [1.5, 1.5]);
    }

    #[test]
    fn a_list_without_variation_has_no_correlation() {
        assert!(matches!(pearson(&[0.1; 3], &[1.0, 2.0, 3.0]), Err(AnalysisError::Constant { .. })));
        assert!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
        assert!(pearson(&[1.0, 2.0], &[1.0]).is_err());
    }

    proptest! {
        #[test]
        fn affine_maps_keep_pearson_and_monotone_maps_spearman(
            pairs in prop::collection::vec((-3.0..3.0f64, -3.0..3.0f64), 4..20), scale in 0.1..5.0f64
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let (r, s) = (pearson(&a, &b).unwrap().coefficient, spearman(&a, &b).unwrap().coefficient);
            let scaled: Vec<f64> = a.iter().map(|x| scale * x - 1.0).collect();
            let bent: Vec<f64> = a.iter().map(|x| x.exp()).collect();
            prop_assert!((pearson(&scaled, &b).unwrap().coefficient - r).abs() < 1e-9);
            prop_assert!((spearman(&bent, &b).unwrap().coefficient - s).abs() < 1e-12);
            prop_assert!(r.abs() <= 1.0 && s.abs() <= 1.0);
        }
    }
}

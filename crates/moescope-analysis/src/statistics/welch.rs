use serde::{Deserialize, Serialize};

use super::{mean, student, variance};
use crate::{AnalysisError, check};

/// Difference of the means of two independent groups whose variances may differ.
///
/// - **Unit:** that of the values; first minus second.
/// - **Null:** equal means.
/// - **Does not show:** what pairing would: where both groups share seeds, [`paired`](super::paired) has more power.
/// - **Source:** Welch 1947, with the Welch–Satterthwaite degrees of freedom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WelchTest {
    /// Difference of the means.
    pub difference: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Difference over its standard error.
    pub t: f64,
    /// Degrees of freedom.
    pub freedom: f64,
    /// Two-sided p-value.
    pub p_value: f64,
}

/// Compares two independent groups.
///
/// # Errors
/// If a group has fewer than two values or one that is not finite.
pub fn welch(first: &[f64], second: &[f64]) -> Result<WelchTest, AnalysisError> {
    for group in [first, second] {
        check::at_least("Welch test", "values", group.len(), 2)?;
        check::finite("Welch test", group)?;
    }
    let share = |group: &[f64]| variance(group) / group.len() as f64;
    let (a, b) = (share(first), share(second));
    let squares = a * a / (first.len() - 1) as f64 + b * b / (second.len() - 1) as f64;
    // Without any spread the degrees of freedom are 0/0; every choice gives the same interval of width 0.
    let freedom = if squares > 0.0 { (a + b).powi(2) / squares } else { 1.0 };
    let difference = mean(first) - mean(second);
    let error = (a + b).sqrt();
    let reach = student::quantile(0.975, freedom) * error;
    let t = difference / error;
    let p_value = student::two_sided(t, freedom);
    Ok(WelchTest { difference, low: difference - reach, high: difference + reach, t, freedom, p_value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_scipy() {
        let test = welch(&[2.31, 2.27, 2.45, 2.38, 2.29], &[2.52, 2.41, 2.60, 2.47, 2.55, 2.44]).unwrap();
        let found = [test.t, test.freedom, test.p_value, test.low, test.high];
        let wanted = [-3.58605481187, 8.50545794955, 0.00644168234362, -0.259105565652, -0.0575611010144];
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-8, "{f} instead of {w}");
        }
    }

    #[test]
    fn groups_swapped_turn_the_sign_only() {
        let (a, b) = ([1.0, 2.0, 4.0], [3.0, 3.5]);
        let (x, y) = (welch(&a, &b).unwrap(), welch(&b, &a).unwrap());
        assert_eq!((x.t, x.low, x.p_value), (-y.t, -y.high, y.p_value));
    }

    #[test]
    fn equal_groups_without_spread_do_not_differ() {
        assert_eq!(welch(&[1.0, 1.0], &[1.0, 1.0]).unwrap().p_value, 1.0);
        assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]).unwrap().p_value, 0.0);
        assert!(welch(&[1.0], &[1.0, 2.0]).is_err());
    }
}

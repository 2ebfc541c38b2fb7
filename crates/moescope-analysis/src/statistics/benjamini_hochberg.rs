use super::holm::made_tests_ascending;

/// p-values corrected so that the expected share of false rejections among all stays below the level.
///
/// For screening many experts or neurons; claims of a study are corrected by [`holm`](super::holm).
///
/// - **Shape:** `p_values[test]` → the same tests in the same order.
/// - **Unit and range:** share of false discoveries, 0 to 1. **NaN** is a test that was not made, and is not counted.
/// - **Does not show:** that any single rejection is right.
/// - **Source:** Benjamini and Hochberg 1995, step-up; valid for independent or positively dependent tests.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let order = made_tests_ascending(p_values);
    let mut corrected = vec![f64::NAN; p_values.len()];
    let mut smallest = 1.0_f64;
    for (rank, index) in order.iter().enumerate().rev() {
        // The ratio first: it is exactly 1 for the largest, which then does not change by rounding.
        smallest = smallest.min(p_values[*index] * (order.len() as f64 / (rank + 1) as f64));
        corrected[*index] = smallest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::super::holm;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_scipy() {
        let corrected = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.005, 0.2]);
        for (found, wanted) in corrected.iter().zip([0.025, 0.05, 0.05, 0.025, 0.2]) {
            assert!((found - wanted).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn it_is_never_stricter_than_holm(p in prop::collection::vec(0.0..=1.0f64, 0..20)) {
            for ((raw, fdr), fwer) in p.iter().zip(benjamini_hochberg(&p)).zip(holm(&p)) {
                prop_assert!(*raw <= fdr && fdr <= fwer + 1e-12);
            }
        }
    }
}

/// p-values corrected so that the chance of any false rejection in the family stays below the level.
///
/// - **Shape:** `p_values[test]` → the same tests in the same order.
/// - **Unit and range:** probability, 0 to 1, never smaller than uncorrected.
/// - **NaN** is a test that was not made: it stays NaN and is not counted.
/// - **Does not show:** which share of the rejections is false; see
///   [`benjamini_hochberg`](super::benjamini_hochberg).
/// - **Source:** Holm 1979, step-down; valid under any dependence.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let order = made_tests_ascending(p_values);
    let mut corrected = vec![f64::NAN; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.iter().enumerate() {
        let remaining = (order.len() - rank) as f64;
        largest = largest.max((remaining * p_values[*index]).min(1.0));
        corrected[*index] = largest;
    }
    corrected
}

/// Indices of the p-values that are numbers, the smallest first.
pub(super) fn made_tests_ascending(p_values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).filter(|i| !p_values[*i].is_nan()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_family_of_five_by_hand() {
        // Sorted: 0.005·5, 0.01·4, 0.03·3, then 0.04·2 = 0.08 raised to 0.09, 0.2·1.
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005, 0.2]);
        for (found, wanted) in corrected.iter().zip([0.04, 0.09, 0.09, 0.025, 0.2]) {
            assert!((found - wanted).abs() < 1e-12);
        }
    }

    #[test]
    fn a_test_that_was_not_made_does_not_count() {
        let corrected = holm(&[0.02, f64::NAN, 0.5]);
        assert_eq!((corrected[0], corrected[2]), (0.04, 0.5));
        assert!(corrected[1].is_nan());
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn order_is_kept_and_nothing_shrinks(p in prop::collection::vec(0.0..=1.0f64, 0..20)) {
            let corrected = holm(&p);
            for i in 0..p.len() {
                prop_assert!(corrected[i] >= p[i] && corrected[i] <= 1.0);
                prop_assert!((0..p.len()).all(|j| p[i] > p[j] || corrected[i] <= corrected[j]));
            }
        }
    }
}

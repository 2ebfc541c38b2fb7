//! What a model keeps of its loss when it goes on with what a dictionary wrote.

/// Share of the loss that is kept: `(ablated - written) / (ablated - clean)`, each the sum of the next-token loss over the same tokens: of the
/// model as it is, with the written rows put in at the target site, and with that site ablated.
///
/// - **Unit and range:** share, 1 for a dictionary that changes nothing, 0 for one that is as bad as the ablation; below 0 if worse, above
///   1 if the model gets better. Not a number where ablation changes nothing.
/// - **Null:** 0, by its definition. Against ablation by zero nearly any dictionary looks good, since zero is far from all the model has
///   seen; so the mean is the sterner measure, and a random dictionary as sparse stands beside it.
/// - **Does not show:** that features are what the model computes with. Units must be the same tokens in all three.
/// - **Source:** loss recovered of Bricken et al. 2023; SAEBench (Karvonen et al. 2025).
pub fn loss_recovered(clean: f64, written: f64, ablated: f64) -> f64 {
    match ablated - clean {
        0.0 => f64::NAN,
        lost => (ablated - written) / lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_by_hand() {
        assert_eq!(loss_recovered(2.0, 2.0, 4.0), 1.0);
        assert_eq!(loss_recovered(2.0, 4.0, 4.0), 0.0);
        assert_eq!(loss_recovered(2.0, 2.5, 4.0), 0.75);
        assert!(loss_recovered(2.0, 2.5, 2.0).is_nan());
    }

    proptest! {
        #[test]
        fn the_unit_and_the_number_of_tokens_do_not_matter(clean in 0.1f64..5.0, by in 0.1f64..5.0, kept in -1.0f64..2.0, unit in 0.1f64..100.0) {
            let (ablated, written) = (clean + by, clean + by * (1.0 - kept));
            let scaled = loss_recovered(unit * clean, unit * written, unit * ablated);
            prop_assert!((loss_recovered(clean, written, ablated) - kept).abs() < 1e-6 && (scaled - kept).abs() < 1e-6);
        }
    }
}

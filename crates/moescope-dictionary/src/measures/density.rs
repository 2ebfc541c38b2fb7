//! How often features are active, as a histogram.

/// Features whose density lies in a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityBin {
    /// Least density, a share of rows; 0 for features that are never active.
    pub from: f64,
    /// Density below which features belong here; the last bin holds 1 as well.
    pub below: f64,
    /// Number of features.
    pub features: usize,
}

/// Bins of a factor of ten.
const DECADES: i32 = 6;

/// Densities sorted into bins: those that are zero, those below a millionth, then by factors of ten up to 1.
///
/// - **Shape:** `densities[feature]` → 8 bins.
/// - **Unit and range:** features, from 0 to all of them.
/// - **Null:** features that are all alike fall into one bin, that of `active / features`.
/// - **Does not show:** what lies below one over the number of rows that were seen: it falls into the first bin.
/// - **Source:** feature density histograms of Bricken et al. 2023.
pub fn density_histogram(densities: &[f64]) -> Vec<DensityBin> {
    let mut edges = vec![0.0, f64::MIN_POSITIVE];
    edges.extend((-DECADES..=0).map(|power| 10f64.powi(power)));
    let last = edges.len() - 2;
    let bin = |place: usize| {
        let (from, below) = (edges[place], edges[place + 1]);
        let inside =
            |density: &&f64| (from..below).contains(*density) || (place == last && **density >= below);
        DensityBin { from, below, features: densities.iter().filter(inside).count() }
    };
    (0..=last).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bins_by_hand() {
        let bins = density_histogram(&[0.0, 0.0, 1e-9, 0.02, 0.5, 0.999, 1.0]);
        let counts: Vec<usize> = bins.iter().map(|bin| bin.features).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 1, 3]);
        assert_eq!((bins[6].from, bins[6].below), (0.01, 0.1));
    }

    proptest! {
        #[test]
        fn every_feature_is_in_one_bin_whatever_the_order(mut densities in proptest::collection::vec(0.0f64..=1.0, 0..40)) {
            let bins = density_histogram(&densities);
            prop_assert_eq!(bins.iter().map(|bin| bin.features).sum::<usize>(), densities.len());
            densities.reverse();
            prop_assert_eq!(bins, density_histogram(&densities));
        }
    }
}

//! How many directions a set of vectors fills: effective rank and participation ratio of their covariance.

use moescope_base::{Column, Seed, Table};
use nalgebra::DMatrix;
use rand::seq::SliceRandom;

use crate::AnalysisError;

const METHOD: &str = "spectrum";

/// Eigenvalues of the covariance of centred vectors, and how many of them count.
///
/// - **Does not show:** what the directions mean, nor whether they matter downstream. Both numbers follow the
///   directions of large variance; a few huge coordinates hide everything else.
/// - **Source:** effective rank of Roy and Vetterli 2007, over eigenvalues of the covariance; participation ratio of
///   Gao et al. 2017.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// Eigenvalues of the covariance, descending, at most `min(rows − 1, dimensions)`, in squared units of the vectors.
    pub eigenvalues: Vec<f64>,
    /// exp of the entropy of the normalised eigenvalues, from 1 to `min(rows − 1, dimensions)`.
    pub effective_rank: f64,
    /// (Σλ)² / Σλ², from 1 to `min(rows − 1, dimensions)`.
    pub participation_ratio: f64,
    /// Sum of the eigenvalues.
    pub total_variance: f64,
    /// Vectors used.
    pub rows: usize,
    /// Coordinates of each.
    pub dimensions: usize,
}

/// Spectrum of a seeded sample of `rows` of the vectors `features[row, dimension]`.
///
/// The rank of the covariance of n vectors is at most n − 1 and both measures grow with n, so spectra may be compared
/// only at equal `rows`: hence the argument. Ten times as many rows as dimensions bring white noise within 5 % of its
/// limit; with fewer, read the numbers against [`white_effective_rank`] and [`white_participation_ratio`].
///
/// # Errors
/// If there are fewer than `rows` vectors or `rows` is below 2, the features do not fill whole rows, an entry is not
/// finite, or all vectors are equal.
pub fn spectrum(
    features: &[f32],
    dimensions: usize,
    rows: usize,
    seed: Seed,
) -> Result<Spectrum, AnalysisError> {
    let centred = sample(features, dimensions, rows, seed)?;
    let scale = 1.0 / (rows as f64 - 1.0);
    // Both products share their eigenvalues apart from zeros; the smaller one is quicker to decompose.
    let (tall, transposed) = (rows > dimensions, centred.transpose());
    let product = if tall { &transposed * &centred } else { &centred * &transposed };
    let mut eigenvalues: Vec<f64> = (product * scale).symmetric_eigenvalues().iter().copied().collect();
    eigenvalues.sort_unstable_by(|a, b| b.total_cmp(a));
    eigenvalues.truncate(dimensions.min(rows - 1));
    // A covariance has no negative eigenvalue; what lies below zero is rounding.
    eigenvalues.iter_mut().for_each(|value| *value = value.max(0.0));
    let total_variance: f64 = eigenvalues.iter().sum();
    if total_variance <= 0.0 {
        return Err(AnalysisError::Constant { method: METHOD, what: "features" });
    }
    let shares = || eigenvalues.iter().map(|value| value / total_variance);
    Ok(Spectrum {
        effective_rank: effective_number(&eigenvalues),
        participation_ratio: 1.0 / shares().map(|share| share * share).sum::<f64>(),
        total_variance,
        rows,
        dimensions,
        eigenvalues,
    })
}

/// exp of the entropy of values brought to sum one: how many equal ones would have this entropy. From 1 to the number of values, which are
/// not negative and not all zero.
pub(crate) fn effective_number(values: &[f64]) -> f64 {
    let all: f64 = values.iter().sum();
    let term = |value: &f64| if *value > 0.0 { -value / all * (value / all).ln() } else { 0.0 };
    values.iter().map(term).sum::<f64>().exp()
}

/// Effective rank expected of `rows` vectors of independent equal noise: the ceiling for this many rows.
///
/// `m · exp(−m / 2n)` with m the smaller and n the larger of `dimensions` and `rows − 1`: the mean of −λ ln λ under the
/// Marchenko–Pastur law (Page 1993).
pub fn white_effective_rank(rows: usize, dimensions: usize) -> f64 {
    let (smaller, larger) = ordered(rows, dimensions);
    smaller * (-smaller / (2.0 * larger)).exp()
}

/// Participation ratio expected of `rows` vectors of independent equal noise: `d ν / (d + ν)` with ν = rows − 1, from
/// the second moment of the Marchenko–Pastur law.
pub fn white_participation_ratio(rows: usize, dimensions: usize) -> f64 {
    let (smaller, larger) = ordered(rows, dimensions);
    smaller * larger / (smaller + larger)
}

fn ordered(rows: usize, dimensions: usize) -> (f64, f64) {
    let freedom = rows.saturating_sub(1);
    (dimensions.min(freedom) as f64, dimensions.max(freedom) as f64)
}

/// A sample of the rows, centred: `[row, dimension]`.
fn sample(
    features: &[f32],
    dimensions: usize,
    rows: usize,
    seed: Seed,
) -> Result<DMatrix<f64>, AnalysisError> {
    if dimensions == 0 || !features.len().is_multiple_of(dimensions) {
        let (found, wanted) = (features.len(), features.len().next_multiple_of(dimensions.max(1)));
        return Err(AnalysisError::Length { method: METHOD, what: "features", found, wanted });
    }
    let available = features.len() / dimensions;
    if available < rows || rows < 2 {
        let wanted = rows.max(2);
        return Err(AnalysisError::TooFew {
            method: METHOD,
            unit: "rows",
            found: available.min(rows),
            wanted,
        });
    }
    if let Some(index) = features.iter().position(|x| !x.is_finite()) {
        let value = f64::from(features[index]);
        return Err(AnalysisError::NotFinite { method: METHOD, index, value });
    }
    let mut order: Vec<usize> = (0..available).collect();
    if rows < available {
        order = order.partial_shuffle(&mut seed.child("spectrum").rng(), rows).0.to_vec();
        order.sort_unstable();
    }
    let mut matrix = DMatrix::from_fn(rows, dimensions, |row, column| {
        f64::from(features[order[row] * dimensions + column])
    });
    for mut column in matrix.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
    Ok(matrix)
}

/// Spectra side by side, such as layers or single experts: one row for each name.
///
/// # Errors
/// If the columns make no table.
pub fn spectrum_table(spectra: &[(String, Spectrum)]) -> Result<Table, AnalysisError> {
    let real = |f: fn(&Spectrum) -> f64| spectra.iter().map(|(_, s)| f(s)).collect::<Vec<f64>>();
    let count = |f: fn(&Spectrum) -> usize| spectra.iter().map(|(_, s)| f(s) as i64).collect();
    let columns = vec![
        Column::key("of", "whose vectors", spectra.iter().map(|(name, _)| name.clone()).collect()),
        Column::estimate(
            "effective_rank",
            "dimensions",
            "exp of entropy of eigenvalues",
            real(|s| s.effective_rank),
        ),
        Column::null(
            "effective_rank",
            "dimensions",
            "white noise with as many rows",
            real(|s| white_effective_rank(s.rows, s.dimensions)),
        ),
        Column::observations("effective_rank", "rows", count(|s| s.rows)),
        Column::estimate(
            "participation_ratio",
            "dimensions",
            "squared sum over sum of squares of eigenvalues",
            real(|s| s.participation_ratio),
        ),
        Column::null(
            "participation_ratio",
            "dimensions",
            "white noise with as many rows",
            real(|s| white_participation_ratio(s.rows, s.dimensions)),
        ),
        Column::estimate(
            "total_variance",
            "squared activation",
            "sum of eigenvalues",
            real(|s| s.total_variance),
        ),
        Column::count("dimensions", "dimensions", "coordinates of each vector", count(|s| s.dimensions)),
    ];
    let method = "Eigenvalues of the covariance of centred vectors, a seeded sample of rows. Compare at equal rows \
                  only. Does not show what the directions mean.";
    Ok(Table::new("spectrum", "How many directions are in use", method, columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::RngExt;

    fn gaussian(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = Seed(seed).rng();
        let mut uniform = || 1.0 - rng.random::<f64>();
        let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        (0..n).map(|_| normal() as f32).collect()
    }

    fn run(features: &[f32], dimensions: usize) -> Spectrum {
        spectrum(features, dimensions, features.len() / dimensions, Seed(0)).unwrap()
    }

    #[test]
    fn a_diagonal_covariance_by_hand() {
        // Four points on two axes: variances 2·9/3 = 6 and 2·1/3, their shares 0.9 and 0.1.
        let found = run(&[3.0, 0.0, -3.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2);
        assert!(
            (found.eigenvalues[0] - 6.0).abs() < 1e-12 && (found.eigenvalues[1] - 2.0 / 3.0).abs() < 1e-12
        );
        assert!((found.participation_ratio - 1.0 / 0.82).abs() < 1e-12);
        let entropy = -(0.9f64 * 0.9f64.ln() + 0.1 * 0.1f64.ln());
        assert!((found.effective_rank - entropy.exp()).abs() < 1e-12);
    }

    #[test]
    fn a_planted_plane_has_two_dimensions_wherever_it_lies() {
        let plane = gaussian(2 * 500, 1);
        let shifted: Vec<f32> =
            plane.chunks_exact(2).flat_map(|p| [p[0] + p[1], p[0] - p[1], 7.0, 2.0 * p[0] - 30.0]).collect();
        let found = run(&shifted, 4);
        assert!(found.effective_rank < 2.01 && found.effective_rank > 1.5);
        assert!(found.eigenvalues[2] < 1e-9);
    }

    #[test]
    fn white_noise_meets_the_law_of_marchenko_and_pastur_tall_and_wide() {
        for (rows, dimensions) in [(200, 20), (60, 40), (30, 80)] {
            let found = run(&gaussian(rows * dimensions, 3), dimensions);
            let rank = found.effective_rank / white_effective_rank(rows, dimensions);
            let ratio = found.participation_ratio / white_participation_ratio(rows, dimensions);
            assert!(
                (rank - 1.0).abs() < 0.05 && (ratio - 1.0).abs() < 0.08,
                "{rows} {dimensions}: {rank} {ratio}"
            );
            assert_eq!(found.eigenvalues.len(), dimensions.min(rows - 1));
        }
    }

    #[test]
    fn a_sample_has_the_asked_rows_and_too_few_or_equal_rows_are_refused() {
        let features = gaussian(100 * 3, 5);
        let sample = |seed| spectrum(&features, 3, 40, Seed(seed)).unwrap();
        assert_eq!((sample(1).rows, sample(1)), (40, sample(1)));
        assert_ne!(sample(1), sample(2));
        assert!(matches!(spectrum(&features, 3, 101, Seed(0)), Err(AnalysisError::TooFew { .. })));
        assert!(matches!(spectrum(&[1.0; 9], 3, 3, Seed(0)), Err(AnalysisError::Constant { .. })));
        assert!(spectrum(&[1.0; 8], 3, 2, Seed(0)).is_err());
        assert!(spectrum(&[1.0, f32::NAN, 2.0, 1.0], 2, 2, Seed(0)).is_err());
        assert_eq!(spectrum_table(&[("a".into(), sample(1))]).unwrap().rows(), 1);
    }

    proptest! {
        #[test]
        fn rotation_shift_and_scale_are_immaterial(seed in 0u64..200, angle in 0.0f32..6.3, scale in 0.5f32..4.0) {
            let features: Vec<f32> =
                gaussian(30 * 3, seed).chunks_exact(3).flat_map(|x| [3.0 * x[0], x[1], 0.5 * x[2]]).collect();
            let (sin, cos) = angle.sin_cos();
            let turn = |x: &[f32]| {
                let y = [cos * x[0] - sin * x[1], sin * x[0] + cos * x[1], x[2]];
                [y[0] * scale, (cos * y[1] - sin * y[2]) * scale + 1.0, (sin * y[1] + cos * y[2]) * scale]
            };
            let turned: Vec<f32> = features.chunks_exact(3).flat_map(turn).collect();
            let (own, other) = (run(&features, 3), run(&turned, 3));
            prop_assert!((own.effective_rank - other.effective_rank).abs() < 1e-4);
            prop_assert!((own.participation_ratio - other.participation_ratio).abs() < 1e-4);
        }
    }
}

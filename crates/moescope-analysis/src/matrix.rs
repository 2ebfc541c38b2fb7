//! Matrices: the few operations on row-major `f64` matrices that the instruments share.

use moescope_base::{Seed, Value};
use moescope_engine::{Doubles, double_product};
use nalgebra::DMatrix;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{AnalysisError, check};

/// Vectors of many tokens: `features[token, coordinate]`, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Transposed: nalgebra stores columns together, so that one column is one token.
    transposed: DMatrix<f64>, // [coordinate, token]
}

impl Features {
    /// Features from row-major numbers, `width` for each token.
    ///
    /// # Errors
    /// If the numbers do not fill whole rows, there are none, or one is not finite.
    pub fn new(width: usize, values: &[f64]) -> Result<Features, AnalysisError> {
        let fits = width > 0 && !values.is_empty() && values.len().is_multiple_of(width);
        let wanted = format!("a positive multiple of the width {width}");
        check::in_range("features", "number of entries", values.len(), fits, &wanted)?;
        check::finite("features", values)?;
        Ok(Features { transposed: DMatrix::from_column_slice(width, values.len() / width, values) })
    }

    /// Features from row-major single-precision numbers.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn from_single(width: usize, values: &[f32]) -> Result<Features, AnalysisError> {
        Features::new(width, &values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
    }

    /// The vectors of a recorded value: its last axis is the coordinate, all others together are the token.
    ///
    /// # Errors
    /// If the value holds integers, or as [`Features::new`].
    pub fn of_value(value: &Value) -> Result<Features, AnalysisError> {
        let real = value.real();
        check::in_range("features", "recorded value", "integers", real.is_some(), "real numbers")?;
        Features::from_single(value.columns(), real.unwrap_or_default())
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.transposed.ncols()
    }

    /// Number of coordinates.
    pub fn width(&self) -> usize {
        self.transposed.nrows()
    }

    /// The vector of one token.
    pub fn row(&self, token: usize) -> &[f64] {
        &self.transposed.as_slice()[token * self.width()..(token + 1) * self.width()]
    }

    /// The vectors of some tokens, in the order given; `tokens` is not empty.
    pub fn select(&self, tokens: &[usize]) -> Features {
        Features { transposed: self.transposed.select_columns(tokens) }
    }

    /// Every vector multiplied by a square matrix: `rotation[new, old]`.
    ///
    /// # Errors
    /// If the matrix does not have the width of the vectors.
    pub fn rotate(&self, rotation: &DMatrix<f64>) -> Result<Features, AnalysisError> {
        check::same_length("rotation", "side of the matrix", rotation.ncols(), self.width())?;
        Ok(Features { transposed: rotation * &self.transposed })
    }

    /// All numbers in single precision, row-major.
    pub fn to_single(&self) -> Vec<f32> {
        self.transposed.iter().map(|v| *v as f32).collect()
    }

    /// Matrix `[coordinate, token]`, for products.
    pub(crate) fn transposed(&self) -> &DMatrix<f64> {
        &self.transposed
    }

    /// The same vectors with the mean vector subtracted.
    pub(crate) fn centred(&self) -> Features {
        let mean = self.transposed.column_mean();
        let mut transposed = self.transposed.clone();
        transposed.column_iter_mut().for_each(|mut column| column -= &mean);
        Features { transposed }
    }
}

/// The product `left · right`.
pub(crate) fn product(left: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
    let found = double_product(sides(left), sides(right));
    DMatrix::from_vec(left.nrows(), right.ncols(), found)
}

/// The product `left · rightᵀ`.
pub(crate) fn product_by_row(left: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
    let found = double_product(sides(left), sides(right).turned());
    DMatrix::from_vec(left.nrows(), right.nrows(), found)
}

/// The product `leftᵀ · right`.
pub(crate) fn product_by_column(left: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
    let found = double_product(sides(left).turned(), sides(right));
    DMatrix::from_vec(left.ncols(), right.ncols(), found)
}

fn sides(matrix: &DMatrix<f64>) -> Doubles<'_> {
    Doubles::by_column(matrix.as_slice(), matrix.nrows(), matrix.ncols())
}

/// A random rotation (or reflection) of `width` dimensions, uniform over the orthogonal group.
///
/// - **Shape:** `[width, width]`, orthogonal.
/// - **Source:** QR decomposition of a Gaussian matrix with the signs fixed (Mezzadri 2007).
pub fn random_rotation(width: usize, seed: Seed) -> DMatrix<f64> {
    let mut rng = seed.rng();
    let gaussian = DMatrix::from_fn(width, width, |_, _| normal(&mut rng));
    let qr = gaussian.qr();
    let (mut q, r) = (qr.q(), qr.r());
    for column in 0..width {
        // Without this the result would depend on the sign convention of the decomposition and not be uniform.
        if r[(column, column)] < 0.0 {
            q.column_mut(column).neg_mut();
        }
    }
    q
}

/// One draw from the standard normal distribution (Box and Muller 1958).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{HookPoint, Site, ValueData};

    #[test]
    fn rows_are_tokens() {
        let features = Features::new(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!((features.tokens(), features.width()), (3, 2));
        assert_eq!(features.row(1), [3.0, 4.0]);
        assert_eq!(features.select(&[2, 0]).row(0), [5.0, 6.0]);
        assert_eq!(features.centred().row(0), [-2.0, -2.0]);
        assert_eq!(features.to_single(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_recorded_value_keeps_its_last_axis() {
        let point = HookPoint::block(Site::ResidPost, 0);
        let value =
            Value::new(point, vec![1, 2, 3], ValueData::Real((0..6).map(|x| x as f32).collect()), None);
        assert_eq!(Features::of_value(&value.unwrap()).unwrap().row(1), [3.0, 4.0, 5.0]);
        let point = HookPoint::block(Site::RouterIndices, 0);
        let indices = Value::new(point, vec![1, 2, 1], ValueData::Integer(vec![0, 1]), None).unwrap();
        assert!(Features::of_value(&indices).is_err());
    }

    #[test]
    fn ragged_empty_and_infinite_features_are_refused() {
        assert!(Features::new(2, &[1.0; 3]).is_err());
        assert!(Features::new(0, &[]).is_err() && Features::new(2, &[]).is_err());
        assert!(Features::new(1, &[f64::INFINITY]).is_err());
    }

    #[test]
    fn a_rotation_keeps_lengths_and_depends_on_its_seed() {
        let rotation = random_rotation(8, Seed(1));
        let error = (&rotation * rotation.transpose() - DMatrix::identity(8, 8)).abs().max();
        assert!(error < 1e-12);
        assert_eq!(rotation, random_rotation(8, Seed(1)));
        assert_ne!(rotation, random_rotation(8, Seed(2)));
    }
}

use nalgebra::DMatrix;

/// The directions in which vectors vary most.
pub(super) struct Subspace {
    /// `[model, direction]`, orthonormal.
    pub(super) directions: DMatrix<f64>,
    /// Standard deviation along each.
    pub(super) deviations: Vec<f64>,
    /// Share of the variance that they hold.
    pub(super) variance: f64,
}

impl Subspace {
    /// The principal directions of vectors `[model, token]`, as many as are wanted and vary at all.
    ///
    /// - **Source:** eigenvectors of the products between centred vectors, whose number is small, not of the covariance of a wide stream.
    pub(super) fn of(vectors: &DMatrix<f64>, wanted: usize) -> Subspace {
        let tokens = vectors.ncols();
        let mean = vectors.column_mean();
        let mut centred = vectors.clone();
        centred.column_iter_mut().for_each(|mut column| column -= &mean);
        let eigen = (centred.tr_mul(&centred) / tokens as f64).symmetric_eigen();
        let mut order: Vec<usize> = (0..tokens).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
        order.truncate(wanted);
        order.retain(|at| eigen.eigenvalues[*at] > 1e-9 * total);
        let mut directions = DMatrix::zeros(vectors.nrows(), order.len());
        for (to, at) in order.iter().enumerate() {
            let direction = &centred * eigen.eigenvectors.column(*at);
            directions.set_column(to, &direction.normalize());
        }
        let values = order.iter().map(|at| eigen.eigenvalues[*at]);
        Subspace {
            directions,
            deviations: values.clone().map(f64::sqrt).collect(),
            variance: if total > 0.0 { values.sum::<f64>() / total } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_by_hand() {
        // Two tokens each at ±3 along the second axis and ±1 along the first, around (5, 5, 5).
        let vectors = DMatrix::from_columns(&[
            nalgebra::DVector::from_vec(vec![5.0, 8.0, 5.0]),
            nalgebra::DVector::from_vec(vec![5.0, 2.0, 5.0]),
            nalgebra::DVector::from_vec(vec![6.0, 5.0, 5.0]),
            nalgebra::DVector::from_vec(vec![4.0, 5.0, 5.0]),
        ]);
        let one = Subspace::of(&vectors, 1);
        assert!((one.directions[(1, 0)].abs() - 1.0).abs() < 1e-12 && (one.variance - 0.9).abs() < 1e-12);
        assert!((one.deviations[0] - 4.5_f64.sqrt()).abs() < 1e-12);
        let all = Subspace::of(&vectors, 9);
        assert_eq!(all.directions.ncols(), 2, "the third axis does not vary");
        assert!((all.variance - 1.0).abs() < 1e-12);
    }
}

//! Dead features set anew to what badly explained rows lack.

use moescope_engine::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Length of a new feature's encoder row, as a share of the mean over live features: small, so that it does not take over at once.
pub(crate) const SHARE: f32 = 0.2;

/// Draws so many rows, each with a probability that grows with the square of its error, with return.
///
/// **Source:** Bricken et al. 2023, "Towards Monosemanticity", neuron resampling.
pub(crate) fn badly_explained(errors: &[f64], count: usize, draws: &mut ChaCha8Rng) -> Vec<usize> {
    let mut sums = Vec::with_capacity(errors.len());
    let mut total = 0.0;
    for error in errors {
        total += error * error;
        sums.push(total);
    }
    let place = |x: f64| sums.partition_point(|sum| *sum <= x).min(errors.len().saturating_sub(1));
    (0..count).map(|_| place(draws.random_range(0.0..1.0) * total)).collect()
}

/// A row at length 1; zeros stay.
pub(crate) fn direction(x: &[f32]) -> Vec<f32> {
    let length = x.iter().map(|x| x * x).sum::<f32>().sqrt();
    x.iter().map(|x| if length > 0.0 { x / length } else { 0.0 }).collect()
}

/// Sum of squares of each row.
pub(crate) fn squares(x: &Tensor) -> Vec<f64> {
    x.data()
        .chunks_exact(x.columns().max(1))
        .map(|row| row.iter().map(|x| f64::from(*x).powi(2)).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    #[test]
    fn rows_come_as_often_as_the_squares_of_their_errors_say() {
        let drawn = badly_explained(&[1.0, 0.0, 2.0], 50_000, &mut Seed(3).rng());
        let share = |row| drawn.iter().filter(|drawn| **drawn == row).count() as f64 / 50_000.0;
        assert!((share(0) - 0.2).abs() < 0.01 && share(1) == 0.0 && (share(2) - 0.8).abs() < 0.01);
    }

    #[test]
    fn directions_and_squares_by_hand() {
        assert_eq!(direction(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(direction(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(squares(&Tensor::new([2, 2], vec![3.0, 4.0, 1.0, 0.0]).unwrap()), [25.0, 1.0]);
    }
}

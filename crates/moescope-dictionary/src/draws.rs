//! What is drawn: normal numbers and directions.

use moescope_base::Seed;
use moescope_engine::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A number of the standard normal distribution, by Box and Muller.
pub(crate) fn normal(draws: &mut ChaCha8Rng) -> f64 {
    // One minus a number of `0..1` is never zero.
    let radius = (-2.0 * (1.0 - draws.random_range(0.0..1.0f64)).ln()).sqrt();
    radius * (std::f64::consts::TAU * draws.random_range(0.0..1.0f64)).cos()
}

/// Random directions of length 1, `[direction, width]`, each as likely as any other: a null for directions that were found.
pub fn directions(count: usize, width: usize, seed: Seed) -> Tensor {
    let mut draws = seed.rng();
    let mut out = Tensor::zeros([count, width]);
    for row in out.data_mut().chunks_exact_mut(width.max(1)) {
        let numbers: Vec<f64> = (0..width).map(|_| normal(&mut draws)).collect();
        let length = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().zip(numbers).for_each(|(out, x)| *out = (x / length) as f32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_moments_of_the_normal_distribution() {
        let mut draws = Seed(5).rng();
        let x: Vec<f64> = (0..40_000).map(|_| normal(&mut draws)).collect();
        let moment = |power: i32| x.iter().map(|x| x.powi(power)).sum::<f64>() / x.len() as f64;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
    }

    #[test]
    fn directions_have_the_length_one() {
        for row in directions(20, 7, Seed(1)).data().chunks(7) {
            assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}

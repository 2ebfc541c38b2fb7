//! What features write, `[feature, target]`: a direction for each, held at length 1.

use moescope_engine::Tensor;

/// Sums that are carried side by side, so that additions need not wait for each other.
const LANES: usize = 16;

/// `Σ a b`.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Gives every row the length 1. A row of zeros stays.
pub(crate) fn normalise(decoder: &mut Tensor) {
    let columns = decoder.columns();
    for row in decoder.data_mut().chunks_exact_mut(columns) {
        let square = product(row, row);
        let factor = if square > 0.0 { square.sqrt().recip() } else { 1.0 };
        row.iter_mut().for_each(|weight| *weight *= factor);
    }
}

/// Takes out of a gradient what would only change the length of a row, so that Adam's moments hold nothing of it.
///
/// **Source:** Bricken et al. 2023, "Towards Monosemanticity", appendix on training.
pub(crate) fn project(gradient: &mut Tensor, decoder: &Tensor) {
    let columns = gradient.columns();
    let rows = gradient.data_mut().chunks_exact_mut(columns).zip(decoder.data().chunks_exact(columns));
    for (gradient, weights) in rows {
        let along = product(gradient, weights);
        gradient.iter_mut().zip(weights).for_each(|(gradient, weight)| *gradient -= along * weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn rows_get_the_length_one_and_zeros_stay() {
        let mut decoder = Tensor::new([3, 2], vec![3.0, 4.0, 0.0, 0.0, 1.0, 0.0]).unwrap();
        normalise(&mut decoder);
        assert_eq!(decoder.data(), [0.6, 0.8, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_projected_gradient_leaves_lengths_alone() {
        let (mut decoder, mut gradient) = (numbers(&[5, 7], 1), numbers(&[5, 7], 2));
        normalise(&mut decoder);
        project(&mut gradient, &decoder);
        let rows = gradient.data().chunks(7).zip(decoder.data().chunks(7));
        let along = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!(rows.map(along).all(|product| product.abs() < 1e-6));
        assert!(gradient.data().chunks(7).all(|row| product(row, row) > 0.01));
    }

    #[test]
    fn products_are_sums_at_every_length() {
        for length in [0, 1, 15, 16, 17, 33, 70] {
            let (a, b) = (numbers(&[length], 3), numbers(&[length], 4));
            let wanted: f64 = a.data().iter().zip(b.data()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(product(a.data(), b.data())) - wanted).abs() < 1e-4, "{length}");
        }
    }
}

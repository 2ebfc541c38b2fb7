//! Columns of a decoder, `[target, feature]`: what each feature writes, held at length 1.

use moescope_engine::Tensor;

/// `Σ_row a b` for each column.
fn products(a: &Tensor, b: &Tensor) -> Vec<f32> {
    let columns = a.columns();
    let mut sums = vec![0.0f32; columns];
    for (a, b) in a.data().chunks_exact(columns).zip(b.data().chunks_exact(columns)) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum = a.mul_add(*b, *sum));
    }
    sums
}

/// Gives every column the length 1. A column of zeros stays.
pub(crate) fn normalise(decoder: &mut Tensor) {
    let factors: Vec<f32> = products(decoder, decoder)
        .into_iter()
        .map(|square| if square > 0.0 { square.sqrt().recip() } else { 1.0 })
        .collect();
    for row in decoder.data_mut().chunks_exact_mut(factors.len()) {
        row.iter_mut().zip(&factors).for_each(|(weight, factor)| *weight *= factor);
    }
}

/// Takes out of a gradient what would only change the length of a column, so that Adam's moments hold nothing of it.
///
/// **Source:** Bricken et al. 2023, "Towards Monosemanticity", appendix on training.
pub(crate) fn project(gradient: &mut Tensor, decoder: &Tensor) {
    let along = products(gradient, decoder);
    let columns = along.len();
    let rows = gradient.data_mut().chunks_exact_mut(columns).zip(decoder.data().chunks_exact(columns));
    for (gradient, weights) in rows {
        for ((gradient, weight), along) in gradient.iter_mut().zip(weights).zip(&along) {
            *gradient -= along * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn columns_get_the_length_one_and_zeros_stay() {
        let mut decoder = Tensor::new([2, 3], vec![3.0, 0.0, 1.0, 4.0, 0.0, 0.0]).unwrap();
        normalise(&mut decoder);
        assert_eq!(decoder.data(), [0.6, 0.0, 1.0, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn a_projected_gradient_leaves_lengths_alone() {
        let (mut decoder, mut gradient) = (numbers(&[7, 5], 1), numbers(&[7, 5], 2));
        normalise(&mut decoder);
        project(&mut gradient, &decoder);
        assert!(products(&gradient, &decoder).iter().all(|product| product.abs() < 1e-6));
        assert!(products(&gradient, &gradient).iter().all(|square| *square > 0.01));
    }
}

use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::matrix::{Features, product_by_row};

/// Unbiased HSIC (HSIC₁) with linear kernels, computed from features.
///
/// With K̃ the kernel matrix without its diagonal: `tr(K̃L̃) + 1ᵀK̃1·1ᵀL̃1 / ((n−1)(n−2)) − 2/(n−2)·1ᵀK̃L̃1`, over `n(n−3)`.
/// Both have the same number of tokens, at least four. Shifting all vectors changes nothing but rounding.
pub(super) fn hsic(first: &Features, second: &Features) -> f64 {
    from_cross(first, second, &cross(first, second))
}

/// CKA without each document in turn: `[document]`, in the order of `left_out`; NaN where it is not defined.
///
/// Products of features are sums over tokens, so that leaving out a document costs only its own tokens.
pub(super) fn without_each(
    first: &Features,
    second: &Features,
    documents: &[u32],
    left_out: &[u32],
) -> Vec<f64> {
    // Centred once over all tokens: HSIC₁ does not depend on the shift, which only guards against rounding.
    let (x, y) = (first.centred(), second.centred());
    let whole = [cross(&x, &y), cross(&x, &x), cross(&y, &y)];
    let without = |document: &u32| {
        let (dropped, kept): (Vec<usize>, Vec<usize>) =
            (0..documents.len()).partition(|token| documents[*token] == *document);
        if kept.len() < 4 {
            return f64::NAN;
        }
        let pick = |tokens: &[usize]| (x.select(tokens), y.select(tokens));
        let ((x_kept, y_kept), (x_dropped, y_dropped)) = (pick(&kept), pick(&dropped));
        let both = from_cross(&x_kept, &y_kept, &(&whole[0] - cross(&x_dropped, &y_dropped)));
        let own_x = from_cross(&x_kept, &x_kept, &(&whole[1] - cross(&x_dropped, &x_dropped)));
        let own_y = from_cross(&y_kept, &y_kept, &(&whole[2] - cross(&y_dropped, &y_dropped)));
        both / (own_x * own_y).sqrt()
    };
    left_out.par_iter().map(without).collect()
}

/// Sum over tokens of the products of coordinates: `[d1, d2]`.
fn cross(first: &Features, second: &Features) -> DMatrix<f64> {
    product_by_row(first.transposed(), second.transposed())
}

fn from_cross(first: &Features, second: &Features, cross: &DMatrix<f64>) -> f64 {
    let n = first.tokens() as f64;
    let (own_x, own_y) = (diagonal(first), diagonal(second));
    let trace = cross.norm_squared() - own_x.iter().zip(&own_y).map(|(a, b)| a * b).sum::<f64>();
    let (sums_x, sums_y) = (row_sums(first, &own_x), row_sums(second, &own_y));
    let totals = sums_x.iter().sum::<f64>() * sums_y.iter().sum::<f64>();
    let inner: f64 = sums_x.iter().zip(&sums_y).map(|(a, b)| a * b).sum();
    (trace + totals / ((n - 1.0) * (n - 2.0)) - 2.0 * inner / (n - 2.0)) / (n * (n - 3.0))
}

/// Diagonal of the kernel matrix.
fn diagonal(features: &Features) -> Vec<f64> {
    features.transposed().column_iter().map(|column| column.norm_squared()).collect()
}

/// Row sums of the kernel matrix without its diagonal.
fn row_sums(features: &Features, own: &[f64]) -> Vec<f64> {
    let total = features.transposed().column_sum();
    features.transposed().column_iter().zip(own).map(|(column, own)| column.dot(&total) - own).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cka;
    use super::*;
    use crate::matrix::normal;
    use moescope_base::Seed;

    fn noise(tokens: usize, width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    /// The definition of HSIC₁ through matrices of tokens by tokens.
    fn hsic_by_definition(first: &Features, second: &Features) -> f64 {
        let kernel = |f: &Features| {
            let mut k = f.transposed().transpose() * f.transposed();
            k.fill_diagonal(0.0);
            k
        };
        let (k, l) = (kernel(first), kernel(second));
        let n = first.tokens() as f64;
        let ones = DMatrix::from_element(first.tokens(), 1, 1.0);
        let inner = (ones.transpose() * &k * &l * &ones)[(0, 0)];
        let trace = (&k * &l).trace();
        (trace + k.sum() * l.sum() / ((n - 1.0) * (n - 2.0)) - 2.0 * inner / (n - 2.0)) / (n * (n - 3.0))
    }

    #[test]
    fn four_tokens_by_hand() {
        // Without its diagonal, the kernel of (1, −1, 1, −1) is ±1 off the diagonal; tr(K̃²) = 12, every row sums to −1,
        // so HSIC₁ = (12 + 16 / 6 − 2 / 2 · 4) / 4 = 8 / 3.
        let signs = Features::new(1, &[1.0, -1.0, 1.0, -1.0]).unwrap();
        assert!((hsic(&signs, &signs) - 8.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn features_give_what_kernels_define() {
        let (a, b) = (noise(15, 3, 1), noise(15, 5, 2));
        assert!((hsic(&a, &b) - hsic_by_definition(&a, &b)).abs() < 1e-10);
        assert!((hsic(&a, &a) - hsic_by_definition(&a, &a)).abs() < 1e-10);
    }

    #[test]
    fn leaving_out_a_document_is_comparing_the_others() {
        let (a, b) = (noise(18, 3, 3), noise(18, 4, 4));
        let documents: Vec<u32> = (0..18).map(|t| t * 5 % 3).collect();
        let found = without_each(&a, &b, &documents, &[0, 1, 2]);
        for (document, value) in found.iter().enumerate() {
            let kept: Vec<usize> = (0..18).filter(|t| documents[*t] != document as u32).collect();
            assert!((value - cka(&a.select(&kept), &b.select(&kept)).unwrap()).abs() < 1e-9);
        }
        assert!(without_each(&a, &b, &[0; 18], &[0])[0].is_nan());
    }
}

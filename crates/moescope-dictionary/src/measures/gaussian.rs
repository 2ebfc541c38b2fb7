//! Rows with the mean and covariance of others, and nothing else of them.

use moescope_base::Seed;
use moescope_engine::{Mode, Tape, Tensor};

use crate::dictionary::transposed;
use crate::draws::normal;
use crate::{DictionaryError, Rows};

/// Gaussian rows with exactly the mean and, in expectation, the covariance of the given rows: `mean + Σ g (x - mean) / √n` with a normal
/// number `g` for each given row. Input and target are drawn together, so what leads from one to the other in a straight line is kept.
///
/// A null for what a dictionary explains: whatever it explains here follows from which columns vary together, and needs no features.
///
/// - **Shape:** `rows[row, column]` → `[count, column]`; never more directions vary than there are rows, so give several times as
///   many rows as columns.
/// - **Unit:** that of the rows.
///
/// # Errors
/// [`DictionaryError::TooFew`] for fewer than two rows.
pub fn gaussian_like(rows: &Rows, count: usize, seed: Seed) -> Result<Rows, DictionaryError> {
    let given = rows.len();
    if given < 2 {
        return Err(DictionaryError::TooFew { found: given as u64, wanted: 2 });
    }
    let mut draws = seed.rng();
    let factor = 1.0 / (given as f64).sqrt();
    let numbers = (0..count * given).map(|_| (normal(&mut draws) * factor) as f32).collect();
    let mixture = Tensor::new([count, given], numbers)?;
    let target = rows.target.as_ref().map(|target| mixed(target, &mixture)).transpose()?;
    Ok(Rows { input: mixed(&rows.input, &mixture)?, target })
}

/// The mean of the rows plus mixtures of what is not the mean.
fn mixed(x: &Tensor, mixture: &Tensor) -> Result<Tensor, DictionaryError> {
    let mean = moescope_base::mean_row(x.data(), x.columns());
    let mut centred = x.clone();
    for row in centred.data_mut().chunks_exact_mut(mean.len()) {
        row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
    }
    let centred = transposed(&centred); // [column, row]
    let mut tape = Tape::new(Mode::Inference);
    let (mixture, centred) = (tape.frozen(mixture), tape.frozen(&centred));
    let product = tape.linear(mixture, centred)?;
    let mean = tape.constant(Tensor::new([mean.len()], mean)?);
    let out = tape.add_bias(product, mean)?;
    Ok(tape.value(out).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows on two lines: `(t, 2 t)` with `t` one of -1 and 1, so their fourth moment is not that of a Gaussian.
    fn rows(count: usize) -> Rows {
        let numbers = (0..count).flat_map(|row| if row % 2 == 0 { [4.0, 2.0] } else { [2.0, -2.0] });
        let input = Tensor::new([count, 2], numbers.collect()).unwrap();
        let target = input.data().chunks(2).map(|row| 10.0 * row[0]).collect();
        Rows { input, target: Some(Tensor::new([count, 1], target).unwrap()) }
    }

    #[test]
    fn mean_covariance_and_the_way_to_the_target_are_kept_and_the_rest_is_not() {
        let drawn = gaussian_like(&rows(400), 20_000, Seed(2)).unwrap();
        let mean = |f: &dyn Fn(&[f32]) -> f64| drawn.input.data().chunks(2).map(f).sum::<f64>() / 20_000.0;
        let [a, b] = [|row: &[f32]| f64::from(row[0]) - 3.0, |row: &[f32]| f64::from(row[1])];
        assert!(mean(&a).abs() < 0.03 && mean(&b).abs() < 0.06);
        assert!((mean(&|r| a(r) * a(r)) - 1.0).abs() < 0.05 && (mean(&|r| a(r) * b(r)) - 2.0).abs() < 0.1);
        // The fourth moment of the given rows is 1, that of a Gaussian 3.
        assert!((mean(&|r| a(r).powi(4)) - 3.0).abs() < 0.3);
        let pairs = drawn.input.data().chunks(2).zip(drawn.wanted().data());
        assert!(pairs.into_iter().all(|(row, target)| (10.0 * row[0] - target).abs() < 1e-3));
    }

    #[test]
    fn a_single_row_has_no_covariance() {
        assert!(gaussian_like(&Rows::of(Tensor::zeros([1, 2])), 5, Seed(1)).is_err());
    }
}

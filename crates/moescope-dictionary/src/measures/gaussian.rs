//! Rows with the mean and covariance of others, and nothing else of them.

use moescope_base::Seed;
use moescope_engine::{Doubles, Mode, Tape, Tensor, double_product};

use crate::draws::normal;
use crate::{DictionaryError, Rows};

/// Gaussian rows with exactly the mean and, in expectation, the covariance of the given rows: `mean + L g` with normal numbers `g` and
/// `L Lᵀ` the covariance. Input and target are drawn together, so what leads from one to the other in a straight line is kept.
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
    let (joined, columns) = joined(rows);
    let mean = moescope_base::mean_row(&joined, columns);
    let spread = spread(&joined, &mean);
    let mut draws = seed.rng();
    let numbers = (0..count * spread.columns()).map(|_| normal(&mut draws) as f32).collect();
    let drawn = Tensor::new([count, spread.columns()], numbers)?;
    let mut tape = Tape::new(Mode::Inference);
    let (drawn, spread) = (tape.frozen(&drawn), tape.frozen(&spread));
    let away = tape.linear(drawn, spread)?;
    let mean = tape.constant(Tensor::new([columns], mean)?);
    let out = tape.add_bias(away, mean)?;
    let (width, all) = (rows.input.columns(), tape.value(out));
    let part = |columns: std::ops::Range<usize>| {
        let numbers = all.data().chunks_exact(all.columns()).flat_map(|row| &row[columns.clone()]);
        Tensor::new([count, columns.len()], numbers.copied().collect())
    };
    let target = rows.target.is_some().then(|| part(width..columns)).transpose()?;
    Ok(Rows { input: part(0..width)?, target })
}

/// Input and target of each row one after the other, and how many columns that makes.
fn joined(rows: &Rows) -> (Vec<f32>, usize) {
    let Some(target) = &rows.target else {
        return (rows.input.data().to_vec(), rows.input.columns());
    };
    let (width, more) = (rows.input.columns(), target.columns());
    let pairs = rows.input.data().chunks_exact(width).zip(target.data().chunks_exact(more));
    (pairs.flat_map(|(input, target)| input.iter().chain(target)).copied().collect(), width + more)
}

/// A matrix `[column, direction]` that times its own transposed is the covariance: its Cholesky factor, or, where there are fewer rows
/// than columns, the rows themselves.
fn spread(rows: &[f32], mean: &[f32]) -> Tensor {
    let columns = mean.len();
    let given = rows.len() / columns;
    let scale = 1.0 / (given as f64).sqrt();
    let away =
        rows.iter().zip(mean.iter().cycle()).map(|(x, mean)| (f64::from(*x) - f64::from(*mean)) * scale);
    let away: Vec<f64> = away.collect();
    // Each row is a column of a matrix `[column, row]`, whose columns are together.
    let sides = Doubles::by_column(&away, columns, given);
    let (numbers, directions) = match given < columns {
        true => (away.clone(), given),
        false => (cholesky(double_product(sides, sides.turned()), columns), columns),
    };
    let turned = (0..columns).flat_map(|column| numbers.iter().skip(column).step_by(columns));
    Tensor::new([columns, directions], turned.map(|x| *x as f32).collect())
        .expect("as many numbers as columns and directions")
}

/// Below this share of the variance of its column nothing is left but rounding: the column follows from those before it.
const NOTHING: f64 = 1e-12;

/// The lower triangle `L` with `L Lᵀ` the symmetric matrix, which may leave directions out; columns together, as given.
fn cholesky(mut matrix: Vec<f64>, size: usize) -> Vec<f64> {
    for place in 0..size {
        let (before, rest) = matrix.split_at_mut(place * size);
        let column = &mut rest[..size];
        let variance = column[place];
        column[..place].fill(0.0);
        for done in before.chunks_exact(size) {
            let factor = done[place];
            column[place..].iter_mut().zip(&done[place..]).for_each(|(x, done)| *x -= factor * done);
        }
        let root = match column[place] > NOTHING * variance {
            true => column[place].sqrt(),
            false => f64::INFINITY, // the column becomes zero
        };
        column[place..].iter_mut().for_each(|x| *x /= root);
    }
    matrix
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

    /// The factor by hand, and of a matrix whose second column is twice the first.
    #[test]
    fn a_factor_gives_its_matrix_back_even_where_a_direction_does_not_vary() {
        let close =
            |a: &[f64], b: &[f64]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?}");
        close(&cholesky(vec![4.0, 2.0, 2.0, 5.0], 2), &[2.0, 1.0, 0.0, 2.0]);
        close(
            &cholesky(vec![1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 3.0, 6.0, 10.0], 3),
            &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        );
        close(&cholesky(vec![0.0], 1), &[0.0]);
        // However little a column varies beside another.
        close(&cholesky(vec![1.0, 0.0, 0.0, 1e-14], 2), &[1.0, 0.0, 0.0, 1e-7]);
        assert!(cholesky(vec![1.0, 0.0, 0.0, 1e-14], 2)[3] > 0.9e-7);
    }

    /// With fewer rows than columns only what the rows span varies.
    #[test]
    fn few_rows_span_what_is_drawn() {
        let two = Rows::of(Tensor::new([2, 4], vec![1.0, 1.0, 0.0, 0.0, 1.0, 3.0, 0.0, 4.0]).unwrap());
        let drawn = gaussian_like(&two, 5000, Seed(8)).unwrap().input;
        let along: Vec<f64> = drawn.data().chunks(4).map(|row| f64::from(row[1]) - 2.0).collect();
        assert!(
            drawn.data().chunks(4).all(|row| row[0] == 1.0 && (row[3] - 2.0 * row[1] + 2.0).abs() < 1e-4)
        );
        assert!((along.iter().map(|x| x * x).sum::<f64>() / 5000.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn a_single_row_has_no_covariance() {
        assert!(gaussian_like(&Rows::of(Tensor::zeros([1, 2])), 5, Seed(1)).is_err());
    }
}

//! Products in double precision, through the `gemm` crate: statistics want them, models do not.
#![allow(unsafe_code)]

use gemm::Parallelism;
use rayon::prelude::*;

/// Numbers as a matrix whose columns lie one after the other, or, turned, its rows.
#[derive(Clone, Copy, Debug)]
pub struct Doubles<'a> {
    data: &'a [f64],
    rows: usize,
    columns: usize,
    by_row: bool,
}

impl<'a> Doubles<'a> {
    /// `data[column, row]`: columns one after the other.
    ///
    /// # Panics
    /// If there are not `rows · columns` numbers.
    pub fn by_column(data: &'a [f64], rows: usize, columns: usize) -> Doubles<'a> {
        assert_eq!(data.len(), rows * columns, "as many numbers as the matrix has places");
        Doubles { data, rows, columns, by_row: false }
    }

    /// The same numbers, rows and columns exchanged.
    pub fn turned(self) -> Doubles<'a> {
        Doubles { rows: self.columns, columns: self.rows, by_row: !self.by_row, ..self }
    }

    /// Distances in memory between neighbouring columns and between neighbouring rows.
    fn strides(&self) -> (isize, isize) {
        match self.by_row {
            true => (1, self.columns as isize),
            false => (self.rows as isize, 1),
        }
    }
}

/// Columns of the result that are worked out together; fixed, so that the number of threads decides no bit.
const TOGETHER: usize = 64;

/// The product `left[m, k] · right[k, n]`, columns one after the other, on the threads of the pool that it is called in.
///
/// # Panics
/// If the inner sizes differ.
pub fn double_product(left: Doubles<'_>, right: Doubles<'_>) -> Vec<f64> {
    assert_eq!(left.columns, right.rows, "the inner sizes of a product");
    let (rows, inner) = (left.rows, left.columns);
    let mut out = vec![0.0; rows * right.columns];
    if rows == 0 || inner == 0 {
        return out;
    }
    let (left_strides, right_strides) = (left.strides(), right.strides());
    out.par_chunks_mut(rows * TOGETHER).enumerate().for_each(|(part, out)| {
        let first = part * TOGETHER;
        let columns = out.len() / rows;
        let right = &right.data[first * right_strides.0 as usize..];
        // SAFETY: the strides lead through `rows · inner` numbers of the left and `inner · columns` of the right side, as many as they
        // were checked to have when they were made, and `out` has `rows · columns` places of its own.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                out.as_mut_ptr(),
                rows as isize,
                1,
                false,
                left.data.as_ptr(),
                left_strides.0,
                left_strides.1,
                right.as_ptr(),
                right_strides.0,
                right_strides.1,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition.
    fn reference(left: Doubles<'_>, right: Doubles<'_>) -> Vec<f64> {
        let at = |of: Doubles<'_>, row: usize, column: usize| {
            let (by_column, by_row) = of.strides();
            of.data[row * by_row as usize + column * by_column as usize]
        };
        let entry = |row: usize, column: usize| -> f64 {
            (0..left.columns).map(|k| at(left, row, k) * at(right, k, column)).sum()
        };
        (0..right.columns)
            .flat_map(|c| (0..left.rows).map(move |r| (r, c)))
            .map(|(r, c)| entry(r, c))
            .collect()
    }

    fn numbers(count: usize, seed: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50.0 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn products_follow_the_definition_however_the_sides_lie(
            rows in 1usize..40, inner in 0usize..40, columns in 0usize..150, turned in 0usize..4,
        ) {
            let (a, b) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let left = match turned & 1 {
                0 => Doubles::by_column(&a, rows, inner),
                _ => Doubles::by_column(&a, inner, rows).turned(),
            };
            let right = match turned & 2 {
                0 => Doubles::by_column(&b, inner, columns),
                _ => Doubles::by_column(&b, columns, inner).turned(),
            };
            let found = double_product(left, right);
            prop_assert!(found.iter().zip(reference(left, right)).all(|(a, b)| (a - b).abs() < 1e-9));
            prop_assert_eq!(found.len(), rows * columns);
        }
    }

    #[test]
    fn the_number_of_threads_decides_no_bit() {
        let (a, b) = (numbers(70 * 90, 3), numbers(90 * 300, 4));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| double_product(Doubles::by_column(&a, 70, 90), Doubles::by_column(&b, 90, 300)))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    #[should_panic(expected = "inner sizes")]
    fn sides_that_do_not_fit_are_a_mistake() {
        double_product(Doubles::by_column(&[1.0, 2.0], 1, 2), Doubles::by_column(&[1.0], 1, 1));
    }
}

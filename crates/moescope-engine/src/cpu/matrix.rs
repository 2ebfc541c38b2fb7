//! Views of matrices inside slices, and the dense product on them: the only file of the project with `unsafe`.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;

/// A matrix to read: any strides, so a transpose or a head's columns cost nothing.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pointer: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    lifetime: PhantomData<&'a [f32]>,
}

/// A matrix to write: rows of contiguous entries, some distance apart.
///
/// It has its entries to itself, as a `&mut [f32]` would, but two of them may interleave in one slice: heads side by side in
/// a token row, say. Only [`tiles`](Self::tiles) and [`window`](Self::window) make such parts.
pub(super) struct MatrixMut<'a> {
    pointer: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Matrix` only reads entries that it borrows, as a `&[f32]` would.
unsafe impl Send for Matrix<'_> {}

// SAFETY: as above.
unsafe impl Sync for Matrix<'_> {}

// SAFETY: a `MatrixMut` has exclusive use of its entries, so sending it is sending a `&mut [f32]`.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> Matrix<'a> {
    /// A whole slice, row-major.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix fills its slice");
        let pointer = data.as_ptr();
        Self { pointer, rows, columns, row_stride: columns, column_stride: 1, lifetime: PhantomData }
    }

    /// Length of a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The entries of one row, of a matrix whose rows are contiguous.
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.rows && self.column_stride == 1, "a contiguous row lies inside");
        // SAFETY: every entry of the matrix lies inside the slice it was made from, borrowed for the lifetime.
        unsafe { std::slice::from_raw_parts(self.pointer.add(row * self.row_stride), self.columns) }
    }

    /// A rectangle of it.
    pub(super) fn window(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows of a window lie inside");
        assert!(
            columns.start <= columns.end && columns.end <= self.columns,
            "columns of a window lie inside"
        );
        // Without `unsafe`: the pointer of an empty window may lie past the end, and is never used.
        let pointer =
            self.pointer.wrapping_add(rows.start * self.row_stride + columns.start * self.column_stride);
        Self { pointer, rows: rows.len(), columns: columns.len(), ..self }
    }
}

impl<'a> MatrixMut<'a> {
    /// A whole slice, row-major.
    pub(super) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix fills its slice");
        Self { pointer: data.as_mut_ptr(), rows, columns, row_stride: columns, lifetime: PhantomData }
    }

    /// A rectangle of it, borrowed.
    pub(super) fn window(&mut self, rows: Range<usize>, columns: Range<usize>) -> MatrixMut<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows of a window lie inside");
        assert!(
            columns.start <= columns.end && columns.end <= self.columns,
            "columns of a window lie inside"
        );
        MatrixMut {
            // As above: an empty window's pointer is never used.
            pointer: self.pointer.wrapping_add(rows.start * self.row_stride + columns.start),
            rows: rows.len(),
            columns: columns.len(),
            row_stride: self.row_stride,
            lifetime: PhantomData,
        }
    }

    /// Cuts the matrix into rectangles of at most this size, row after row of them.
    pub(super) fn tiles(mut self, height: usize, width: usize) -> Vec<MatrixMut<'a>> {
        let mut tiles = Vec::new();
        for top in (0..self.rows).step_by(height.max(1)) {
            for left in (0..self.columns).step_by(width.max(1)) {
                let (bottom, right) = ((top + height).min(self.rows), (left + width).min(self.columns));
                let tile = self.window(top..bottom, left..right);
                // The rectangles are disjoint and `self` is gone, so each has its entries to itself for the whole lifetime.
                tiles.push(MatrixMut { lifetime: PhantomData, ..tile });
            }
        }
        tiles
    }

    /// The entries of one row.
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "a row lies inside");
        // SAFETY: the row lies inside the matrix, which has exclusive use of it, and the borrow of `self` guards it.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(row * self.row_stride), self.columns) }
    }

    /// A view for reading, which lasts as long as nobody writes.
    pub(super) fn read(&self) -> Matrix<'_> {
        Matrix {
            pointer: self.pointer,
            rows: self.rows,
            columns: self.columns,
            row_stride: self.row_stride,
            column_stride: 1,
            lifetime: PhantomData,
        }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }
}

/// `out = factor * left · right`, added to what is there when `accumulate`. Runs on the calling thread.
///
/// Where the rows of `left` are contiguous, as those of activations are, the bits of a row of the result depend on that row and on
/// `right` alone, however many other rows there are.
pub(super) fn product(
    mut out: MatrixMut<'_>,
    left: Matrix<'_>,
    right: Matrix<'_>,
    factor: f32,
    accumulate: bool,
) {
    let least = least_rows(out.columns, left.columns);
    if out.rows == 0 || out.rows >= least || left.column_stride != 1 {
        return multiply(out, left, right, factor, accumulate);
    }
    let mut padded = vec![0.0; least * left.columns];
    let mut results = vec![0.0; least * out.columns];
    for row in 0..out.rows {
        padded[row * left.columns..][..left.columns].copy_from_slice(left.row(row));
        results[row * out.columns..][..out.columns].copy_from_slice(out.row(row));
    }
    let all = MatrixMut::new(&mut results, least, out.columns);
    multiply(all, Matrix::new(&padded, least, left.columns), right, factor, accumulate);
    for row in 0..out.rows {
        let from = &results[row * out.columns..][..out.columns];
        out.row(row).copy_from_slice(from);
    }
}

/// Rows from which on gemm sums every row of a product in the same order.
///
/// For one row, and for results of at most 256 numbers, it has kernels of their own; for at most 64 by 64 numbers it cuts an
/// inner axis longer than 512 elsewhere.
fn least_rows(columns: usize, inner: usize) -> usize {
    let plain = (256 / columns.max(1) + 1).max(2);
    if columns <= 64 && inner > 512 { plain.max(65) } else { plain }
}

/// [`product`] as gemm does it for this number of rows.
fn multiply(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, factor: f32, accumulate: bool) {
    assert_eq!(
        (out.rows, out.columns, left.columns),
        (left.rows, right.columns, right.rows),
        "a product's axes"
    );
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    // SAFETY: the axes agree; every entry of a view lies inside the slice it was made from, since `new` checks the length and
    // windows and tiles stay inside; `out` has its entries to itself; `f32` is a type that gemm knows.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            left.columns,
            out.pointer,
            1,
            out.row_stride as isize,
            accumulate,
            left.pointer,
            left.column_stride as isize,
            left.row_stride as isize,
            right.pointer,
            right.column_stride as isize,
            right.row_stride as isize,
            if accumulate { 1.0 } else { 0.0 },
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(length: usize, seed: usize) -> Vec<f32> {
        (0..length).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5) - 1.0).collect()
    }

    fn slow(left: &[f32], right: &[f32], rows: usize, inner: usize, columns: usize) -> Vec<f64> {
        let entry = |row: usize, column: usize| {
            (0..inner)
                .map(|i| f64::from(left[row * inner + i]) * f64::from(right[i * columns + column]))
                .sum()
        };
        (0..rows * columns).map(|i| entry(i / columns, i % columns)).collect()
    }

    proptest! {
        #[test]
        fn a_product_is_a_product(rows in 1usize..20, inner in 1usize..40, columns in 1usize..20, swap: bool) {
            let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
            let mut out = vec![1.0; rows * columns];
            let view = Matrix::new(&right, inner, columns);
            let turned: Vec<f32> = (0..right.len()).map(|i| right[(i % inner) * columns + i / inner]).collect();
            let view = if swap { Matrix::new(&turned, columns, inner).transposed() } else { view };
            product(MatrixMut::new(&mut out, rows, columns), Matrix::new(&left, rows, inner), view, 2.0, true);
            for (found, wanted) in out.iter().zip(slow(&left, &right, rows, inner, columns)) {
                prop_assert!((f64::from(*found) - 1.0 - 2.0 * wanted).abs() < 1e-4);
            }
        }

        #[test]
        fn a_row_has_the_same_bits_in_any_company(
            columns in 1usize..80, inner in prop_oneof![1usize..70, 500usize..1100], rows in 1usize..90, swap: bool, add: bool,
        ) {
            let (left, right) = (numbers(90 * inner, 1), numbers(inner * columns, 2));
            let right = match swap {
                false => Matrix::new(&right, inner, columns),
                true => Matrix::new(&right, columns, inner).transposed(),
            };
            let results = |rows: usize| {
                let mut out = numbers(rows * columns, 3);
                let left = Matrix::new(&left[..rows * inner], rows, inner);
                product(MatrixMut::new(&mut out, rows, columns), left, right, 0.5, add);
                out.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
            };
            prop_assert_eq!(&results(90)[..rows * columns], results(rows));
        }

        #[test]
        fn tiles_cover_everything_once(rows in 1usize..9, columns in 1usize..9, height in 1usize..5, width in 1usize..5) {
            let mut data = vec![0.0; rows * columns];
            for mut tile in MatrixMut::new(&mut data, rows, columns).tiles(height, width) {
                for row in 0..tile.rows() {
                    tile.row(row).iter_mut().for_each(|entry| *entry += 1.0);
                }
            }
            prop_assert!(data.iter().all(|&count| count == 1.0));
        }
    }

    #[test]
    fn an_empty_inner_axis_gives_zero() {
        let mut out = [5.0; 4];
        product(MatrixMut::new(&mut out, 2, 2), Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2), 1.0, false);
        assert_eq!(out, [0.0; 4]);
    }

    #[test]
    #[should_panic(expected = "a product's axes")]
    fn axes_that_do_not_agree_are_refused() {
        let mut out = [0.0; 4];
        product(
            MatrixMut::new(&mut out, 2, 2),
            Matrix::new(&[1.0; 6], 2, 3),
            Matrix::new(&[1.0; 4], 2, 2),
            1.0,
            false,
        );
    }
}

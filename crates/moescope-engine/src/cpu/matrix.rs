//! Views of matrices inside slices: strides, windows, and disjoint tiles to write.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix to read: any strides, so a transpose or a head's columns cost nothing.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) pointer: *const f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
    lifetime: PhantomData<&'a [f32]>,
}

/// A matrix to write: rows of contiguous entries, some distance apart.
///
/// It has its entries to itself, as a `&mut [f32]` would, but two of them may interleave in one slice: heads side by side in
/// a token row, say. Only [`tiles`](Self::tiles) and [`window`](Self::window) make such parts.
pub(super) struct MatrixMut<'a> {
    pub(super) pointer: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
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

    /// All of it, borrowed.
    pub(super) fn borrow(&mut self) -> MatrixMut<'_> {
        self.window(0..self.rows, 0..self.columns)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
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
}

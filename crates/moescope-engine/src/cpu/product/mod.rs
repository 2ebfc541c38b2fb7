//! Dense products: by our own kernels where the machine has AVX2 or AVX-512, and by the `gemm` crate elsewhere.
//!
//! What ours do beyond a plain product: rows may be *named* on either side or in the result, so that experts read the rows of
//! their tokens and add to them where they are. In every product the bits of a number depend on its row of `left`, its column of
//! `right` and nothing else: neither on how many other rows there are, nor on how the work was cut.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod machine;
mod portable;

use std::marker::PhantomData;

use super::matrix::{Matrix, MatrixMut};
use crate::LinearShape;

/// Length of each axis of a product.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    columns: usize,
    inner: usize,
}

/// Which rows of a matrix the steps of a sum are: all in order, or those named, each as it is or times its factor.
#[derive(Clone, Copy, Default)]
struct Steps<'a> {
    names: Option<&'a [u32]>,
    factors: Option<&'a [f32]>,
}

/// The left side, as it lies in memory. Rows of the matrix are contiguous; a list names those that count.
#[derive(Clone, Copy)]
enum LeftSide<'a> {
    /// `[row, step]`.
    ByRow(Matrix<'a>, Option<&'a [u32]>),
    /// `[step, row]`.
    ByStep(Matrix<'a>, Steps<'a>),
}

/// The right side, likewise.
#[derive(Clone, Copy)]
enum RightSide<'a> {
    /// `[step, column]`.
    ByStep(Matrix<'a>, Steps<'a>),
    /// `[column, step]`.
    ByColumn(Matrix<'a>),
}

/// Where a product goes: rows `stride` apart, in order or named, each times its factor and the common one, written or added.
#[derive(Clone, Copy)]
struct Out<'a> {
    pointer: *mut f32,
    stride: usize,
    names: Option<&'a [u32]>,
    factors: Option<&'a [f32]>,
    factor: f32,
    add: bool,
    /// Rows and columns exchanged: then there are neither names nor factors. Not for gemm.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    turned: bool,
    lifetime: PhantomData<&'a mut [f32]>,
}

/// The sides of a product, to be called for before it begins.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
struct Operands<'a> {
    left: LeftSide<'a>,
    /// None where it is laid out already.
    right: Option<RightSide<'a>>,
    sizes: Sizes,
}

impl<'a> Out<'a> {
    /// All rows of a slice, to be written.
    fn new(data: &'a mut [f32], columns: usize) -> Self {
        let (pointer, lifetime) = (data.as_mut_ptr(), PhantomData);
        let (names, factors, stride) = (None, None, columns);
        Self { pointer, stride, names, factors, factor: 1.0, add: false, turned: false, lifetime }
    }

    /// All rows of a matrix.
    fn all(matrix: MatrixMut<'a>, factor: f32, add: bool) -> Self {
        let (pointer, stride, lifetime) = (matrix.pointer, matrix.row_stride, PhantomData);
        Self { pointer, stride, names: None, factors: None, factor, add, turned: false, lifetime }
    }
}

impl<'a> LeftSide<'a> {
    /// Some of its rows.
    #[cfg(target_arch = "x86_64")]
    fn rows(self, rows: std::ops::Range<usize>) -> Self {
        match self {
            Self::ByRow(matrix, Some(names)) => Self::ByRow(matrix, Some(&names[rows])),
            Self::ByRow(matrix, None) => Self::ByRow(matrix.window(rows, 0..matrix.columns), None),
            Self::ByStep(matrix, steps) => Self::ByStep(matrix.window(0..matrix.rows, rows), steps),
        }
    }

    fn new(matrix: Matrix<'a>) -> Self {
        if matrix.column_stride == 1 {
            Self::ByRow(matrix, None)
        } else {
            Self::ByStep(turned(matrix), Steps::default())
        }
    }
}

impl<'a> RightSide<'a> {
    fn new(matrix: Matrix<'a>) -> Self {
        if matrix.column_stride == 1 {
            Self::ByStep(matrix, Steps::default())
        } else {
            Self::ByColumn(turned(matrix))
        }
    }
}

/// The transpose of a matrix whose columns are contiguous, so that its rows are.
fn turned(matrix: Matrix<'_>) -> Matrix<'_> {
    assert_eq!(matrix.row_stride, 1, "one axis of a matrix is contiguous");
    matrix.transposed()
}

/// Refuses names of rows that there are not.
fn check_names(names: &[u32], rows: usize) {
    assert!(names.iter().all(|&name| (name as usize) < rows), "names are those of rows");
}

/// `out = factor * left · right`, added to what is there when `accumulate`. Runs on the calling thread, as all of these.
pub(super) fn product(
    out: MatrixMut<'_>,
    left: Matrix<'_>,
    right: Matrix<'_>,
    factor: f32,
    accumulate: bool,
) {
    assert_eq!(
        (out.rows, out.columns, left.columns),
        (left.rows, right.columns, right.rows),
        "a product's axes"
    );
    let sizes = Sizes { rows: out.rows, columns: out.columns, inner: left.columns };
    multiply(&Out::all(out, factor, accumulate), LeftSide::new(left), RightSide::new(right), sizes, None);
}

/// The sides of a product whose left side lies row by row.
#[derive(Clone, Copy)]
pub(super) struct RowProduct<'a> {
    pub(super) left: Matrix<'a>,
    /// Which rows of the left side count; all without.
    pub(super) names: Option<&'a [u32]>,
    pub(super) right: Matrix<'a>,
}

impl<'a> RowProduct<'a> {
    /// The sides, after a look at their sizes and names.
    fn operands(self) -> Operands<'a> {
        let Self { left, names, right } = self;
        assert_eq!(left.columns, right.rows, "a product's axes");
        check_names(names.unwrap_or_default(), left.rows);
        let rows = names.map_or(left.rows, <[u32]>::len);
        let side = match names {
            Some(_) => {
                assert_eq!(left.column_stride, 1, "rows that are named are contiguous");
                LeftSide::ByRow(left, names)
            }
            None => LeftSide::new(left),
        };
        let sizes = Sizes { rows, columns: right.columns, inner: left.columns };
        Operands { left: side, right: Some(RightSide::new(right)), sizes }
    }
}

/// The right side of a product that is needed for many rows, laid out once.
pub(super) struct Prepared<'a> {
    matrix: Matrix<'a>,
    panels: Option<machine::Panels>,
}

impl<'a> Prepared<'a> {
    /// In tasks of its own, for products of this shape by this machine's kernels.
    pub(super) fn new(matrix: Matrix<'a>) -> Self {
        let something = matrix.rows * matrix.columns > 0;
        // SAFETY: a view lies inside its slice.
        let lay_out = || unsafe { machine::Panels::new(RightSide::new(matrix), matrix.rows, matrix.columns) };
        Self { matrix, panels: something.then(lay_out).flatten() }
    }

    /// `out = left · right`, added to what is there when `accumulate`, with the bits of [`product`].
    ///
    /// `next` is the left side that comes next; it decides speed alone.
    pub(super) fn product(
        &self,
        out: MatrixMut<'_>,
        left: Matrix<'_>,
        accumulate: bool,
        next: Option<Matrix<'_>>,
    ) {
        assert_eq!(out.columns, self.matrix.columns, "a product's axes");
        let next = next.map(|left| Operands {
            left: LeftSide::new(left),
            right: None,
            sizes: Sizes { rows: left.rows, columns: out.columns, inner: left.columns },
        });
        self.multiply(out, left, (1.0, accumulate), next.as_ref());
    }

    /// `out = factor * left · right` for the first columns of the right side, as many as `out` has.
    pub(super) fn product_of_first(&self, out: MatrixMut<'_>, left: Matrix<'_>, factor: f32) {
        assert!(out.columns <= self.matrix.columns, "a product's axes");
        self.multiply(out, left, (factor, false), None);
    }

    fn multiply(
        &self,
        out: MatrixMut<'_>,
        left: Matrix<'_>,
        (factor, accumulate): (f32, bool),
        next: Option<&Operands<'_>>,
    ) {
        assert_eq!((out.rows, left.columns), (left.rows, self.matrix.rows), "a product's axes");
        let sizes = Sizes { rows: out.rows, columns: out.columns, inner: left.columns };
        let right = RightSide::new(self.matrix.window(0..self.matrix.rows, 0..out.columns));
        let (out, left) = (Out::all(out, factor, accumulate), LeftSide::new(left));
        if let Some(panels) = &self.panels
            && sizes.rows > 0
            && sizes.columns > 0
        {
            // SAFETY: sizes were held against views above, and the panels are those of this side.
            return unsafe { panels.multiply(&out, left, right, sizes, next) };
        }
        multiply(&out, left, right, sizes, next);
    }
}

/// `out[i] = left[names[i]] · right`. `next` is what comes next; it decides speed alone.
pub(super) fn product_of_rows(out: MatrixMut<'_>, sides: RowProduct<'_>, next: Option<RowProduct<'_>>) {
    let Operands { left, sizes, .. } = sides.operands();
    assert_eq!((out.rows, out.columns), (sizes.rows, sizes.columns), "a product's axes");
    let next = next.map(RowProduct::operands);
    multiply(&Out::all(out, 1.0, false), left, RightSide::new(sides.right), sizes, next.as_ref());
}

/// Where the rows of a product are added.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    /// Number of the target's first row, from which names count.
    pub(super) first: usize,
    /// For each row of the product, that of the target.
    pub(super) names: &'a [u32],
    /// For each row of the product, what it is multiplied with; one without.
    pub(super) factors: Option<&'a [f32]>,
}

/// `out[names[i]] += factors[i] * (left · right)[i]`, in order.
///
/// A row of the product is rounded before it is added, however long the inner axis is. `next` as in [`product_of_rows`].
pub(super) fn add_product_to_rows(
    out: &mut MatrixMut<'_>,
    Names { first, names, factors }: Names<'_>,
    sides: RowProduct<'_>,
    next: Option<RowProduct<'_>>,
) {
    let Operands { left, sizes, .. } = sides.operands();
    assert_eq!((names.len(), out.columns), (sizes.rows, sizes.columns), "a product's axes");
    assert!(factors.is_none_or(|factors| factors.len() == names.len()), "a factor for each row");
    assert!(names.iter().all(|&name| name as usize >= first), "names are those of rows");
    check_names(names, first + out.rows);
    let (rows, columns) = (out.rows, out.columns);
    let target = Out::all(out.window(0..rows, 0..columns), 1.0, true);
    // Without `unsafe`: no name is below `first`, so the pointer is only used at rows of the target.
    let pointer = target.pointer.wrapping_sub(first * target.stride);
    let target = Out { pointer, names: Some(names), factors, ..target };
    let next = next.map(RowProduct::operands);
    multiply(&target, left, RightSide::new(sides.right), sizes, next.as_ref());
}

/// Rows of a matrix that a sum runs over: all of them in order, or those named.
#[derive(Clone, Copy)]
pub(super) struct SummedRows<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) names: Option<&'a [u32]>,
    /// What each is multiplied with first.
    pub(super) factors: Option<&'a [f32]>,
}

impl<'a> SummedRows<'a> {
    fn steps(&self) -> Steps<'a> {
        Steps { names: self.names, factors: self.factors }
    }

    /// How many there are, after a look at their names and factors.
    fn count(&self) -> usize {
        assert_eq!(self.matrix.column_stride, 1, "rows of a sum are contiguous");
        let count = self.names.map_or(self.matrix.rows, <[u32]>::len);
        assert!(self.factors.is_none_or(|factors| factors.len() == count), "a factor for each row");
        check_names(self.names.unwrap_or_default(), self.matrix.rows);
        count
    }
}

/// Columns below which a sum over rows is computed turned over.
const FEW_COLUMNS: usize = 96;

/// The two sides of a sum over rows.
pub(super) type Summed<'a> = (SummedRows<'a>, SummedRows<'a>);

/// `out[i, j] = Σ_row left[row, i] * right[row, j]`, added to what is there when `accumulate`. `next` as in [`product_of_rows`].
pub(super) fn sum_over_rows(
    out: MatrixMut<'_>,
    (left, right): Summed<'_>,
    accumulate: bool,
    next: Option<Summed<'_>>,
) {
    assert_eq!(
        (out.rows, out.columns, left.count()),
        (left.matrix.columns, right.matrix.columns, right.count()),
        "a product's axes"
    );
    let (operands, right, turned) = summed((left, right));
    let next = next.map(|next| summed(next).0);
    let out = Out { turned, ..Out::all(out, 1.0, accumulate) };
    multiply(&out, operands.left, right, operands.sizes, next.as_ref());
}

/// The sides as those of a product, and whether that is turned over: strips of a wide left side for few columns would each be packed
/// for one tile or two, so the columns are packed instead.
fn summed((left, right): Summed<'_>) -> (Operands<'_>, RightSide<'_>, bool) {
    let (rows, columns, inner) = (left.matrix.columns, right.matrix.columns, left.count());
    let turned = columns < FEW_COLUMNS && columns < rows && own_kernels();
    let (rows, columns, left, right) = match turned {
        false => (rows, columns, left, right),
        true => (columns, rows, right, left),
    };
    let (left, right) =
        (LeftSide::ByStep(left.matrix, left.steps()), RightSide::ByStep(right.matrix, right.steps()));
    (Operands { left, right: Some(right), sizes: Sizes { rows, columns, inner } }, right, turned)
}

/// `x · weightᵀ` as the `gemm` crate does it on one core, whole: the yardstick of our own.
pub(crate) fn gemm_product(x: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32]) {
    let sizes = Sizes { rows: shape.rows, columns: shape.outputs, inner: shape.inputs };
    let x = Matrix::new(x, shape.rows, shape.inputs);
    let weight = Matrix::new(weight, shape.outputs, shape.inputs);
    let out = Out::all(MatrixMut::new(out, shape.rows, shape.outputs), 1.0, false);
    portable::multiply(&out, LeftSide::new(x), RightSide::ByColumn(weight), sizes);
}

/// Hands over to the kernels of this machine.
fn multiply(
    out: &Out<'_>,
    left: LeftSide<'_>,
    right: RightSide<'_>,
    sizes: Sizes,
    next: Option<&Operands<'_>>,
) {
    if sizes.rows == 0 || sizes.columns == 0 {
        return;
    }
    if sizes.inner == 0 {
        if !out.add {
            clear(out, sizes);
        }
        return;
    }
    // SAFETY: the callers above hold the sizes against views that lie inside their slices and names against the number of rows, and a
    // target has its entries to itself.
    unsafe { machine::multiply(out, left, right, sizes, next) }
}

/// Whether this machine can run ours.
pub(super) fn own_kernels() -> bool {
    machine::Machine::here() != machine::Machine::Other
}

/// A sum over nothing.
fn clear(out: &Out<'_>, sizes: Sizes) {
    for row in 0..sizes.rows {
        // SAFETY: the row lies inside the target, which has its entries to itself.
        unsafe { std::slice::from_raw_parts_mut(out.pointer.add(row * out.stride), sizes.columns) }.fill(0.0);
    }
}

#[cfg(test)]
mod tests;

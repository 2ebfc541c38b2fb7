//! Products through the `gemm` crate, for machines whose kernels we have not written ourselves.
#![allow(unsafe_code)]

use gemm::Parallelism;

use super::{LeftSide, Out, RightSide, Sizes, Steps};
use crate::cpu::matrix::Matrix;
use crate::cpu::vector::{add_scaled, vectorised};
use crate::memory;

/// `out = left · right`, or added. Rows that are named are copied first, and added last.
///
/// Where the rows of `left` are contiguous, the bits of a row of the result depend on that row and on `right` alone, however many
/// other rows there are.
pub(super) fn multiply(out: &Out<'_>, left: LeftSide<'_>, right: RightSide<'_>, sizes: Sizes) {
    let (mut left_copy, mut right_copy) = (Vec::new(), Vec::new());
    let left = match left {
        LeftSide::ByRow(matrix, None) => matrix,
        LeftSide::ByRow(matrix, Some(names)) => gathered(matrix, names, &mut left_copy),
        LeftSide::ByStep(matrix, steps) => stepped(matrix, steps, &mut left_copy).transposed(),
    };
    let right = match right {
        RightSide::ByStep(matrix, steps) => stepped(matrix, steps, &mut right_copy),
        RightSide::ByColumn(matrix) => matrix.transposed(),
    };
    match out.names {
        None => padded(out, left, right),
        Some(names) => {
            let mut results = memory::take(sizes.rows * sizes.columns);
            let aside = Out {
                names: None,
                factors: None,
                factor: 1.0,
                add: false,
                ..Out::new(&mut results, sizes.columns)
            };
            padded(&aside, left, right);
            add_rows(out, names, &results, sizes.columns);
            memory::give_back(results);
        }
    }
    memory::give_back(left_copy);
    memory::give_back(right_copy);
}

/// The steps of a side, copied if they are named or have factors.
fn stepped<'a>(matrix: Matrix<'a>, steps: Steps<'_>, copy: &'a mut Vec<f32>) -> Matrix<'a> {
    if steps.names.is_none() && steps.factors.is_none() {
        return matrix;
    }
    let count = steps.names.map_or(matrix.rows, <[u32]>::len);
    let width = matrix.columns();
    *copy = memory::take(count * width);
    for (step, out) in copy.chunks_exact_mut(width.max(1)).enumerate() {
        let row = matrix.row(steps.names.map_or(step, |names| names[step] as usize));
        let factor = steps.factors.map_or(1.0, |factors| factors[step]);
        out.iter_mut().zip(row).for_each(|(out, &entry)| *out = factor * entry);
    }
    Matrix::new(copy, count, width)
}

/// The named rows, one after the other.
fn gathered<'a>(matrix: Matrix<'_>, names: &[u32], copy: &'a mut Vec<f32>) -> Matrix<'a> {
    let width = matrix.columns();
    *copy = memory::take(names.len() * width);
    for (row, &name) in copy.chunks_exact_mut(width.max(1)).zip(names) {
        row.copy_from_slice(matrix.row(name as usize));
    }
    Matrix::new(copy, names.len(), width)
}

/// Adds each row times its factor to the row that is named for it.
pub(super) fn add_rows(out: &Out<'_>, names: &[u32], results: &[f32], columns: usize) {
    for (place, (row, &name)) in results.chunks_exact(columns.max(1)).zip(names).enumerate() {
        let factor = out.factor * out.factors.map_or(1.0, |factors| factors[place]);
        // SAFETY: the name is that of a row of the target, which has its entries to itself.
        let target = unsafe {
            std::slice::from_raw_parts_mut(out.pointer.wrapping_add(name as usize * out.stride), columns)
        };
        add_row(target, row, factor);
    }
}

vectorised! {
    /// `into += factor * from`, rounded once.
    fn add_row<'a>(into: &'a mut [f32], from: &'a [f32], factor: f32) {
        add_scaled(into, from, factor);
    }
}

/// With rows of zeros below where there are so few that gemm would take another way.
fn padded(out: &Out<'_>, left: Matrix<'_>, right: Matrix<'_>) {
    let (rows, columns, inner) = (left.rows, right.columns, left.columns);
    let least = least_rows(columns, inner);
    if rows >= least || left.column_stride != 1 {
        return strided(out, left, right);
    }
    let mut copy = vec![0.0; least * inner];
    let mut results = vec![0.0; least * columns];
    for row in 0..rows {
        copy[row * inner..][..inner].copy_from_slice(left.row(row));
        if out.add {
            results[row * columns..][..columns].copy_from_slice(row_of(out, row, columns));
        }
    }
    let aside = Out { factor: out.factor, add: out.add, ..Out::new(&mut results, columns) };
    strided(&aside, Matrix::new(&copy, least, inner), right);
    for row in 0..rows {
        row_of(out, row, columns).copy_from_slice(&results[row * columns..][..columns]);
    }
}

/// One row of a target whose rows are in order.
#[allow(clippy::mut_from_ref)]
fn row_of<'a>(out: &'a Out<'_>, row: usize, columns: usize) -> &'a mut [f32] {
    // SAFETY: the row lies inside the target, which has its entries to itself; each is gone before the next is asked for.
    unsafe { std::slice::from_raw_parts_mut(out.pointer.add(row * out.stride), columns) }
}

/// Rows from which on gemm sums every row of a product in the same order.
///
/// For one row, and for results of at most 256 numbers, it has kernels of their own; for at most 64 by 64 numbers it cuts an
/// inner axis longer than 512 elsewhere.
fn least_rows(columns: usize, inner: usize) -> usize {
    let plain = (256 / columns.max(1) + 1).max(2);
    if columns <= 64 && inner > 512 { plain.max(65) } else { plain }
}

/// The product as gemm does it for this number of rows.
fn strided(out: &Out<'_>, left: Matrix<'_>, right: Matrix<'_>) {
    // SAFETY: the axes agree; every entry of a view lies inside the slice it was made from; the target has its entries to itself;
    // `f32` is a type that gemm knows.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.pointer,
            1,
            out.stride as isize,
            out.add,
            left.pointer,
            left.column_stride as isize,
            left.row_stride as isize,
            right.pointer,
            right.column_stride as isize,
            right.row_stride as isize,
            if out.add { 1.0 } else { 0.0 },
            out.factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

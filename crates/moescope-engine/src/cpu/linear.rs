//! Dense products, cut into tiles whose size depends on the shape alone.

use super::chunks::run;
use super::matrix::{Matrix, MatrixMut};
use super::product::{Prepared, own_kernels, product};
use crate::LinearShape;

/// Rows of a tile of activations: enough to pay for packing the weight anew.
pub(super) const TILE_ROWS: usize = 256;
/// Columns of a tile.
const TILE_COLUMNS: usize = 1024;

/// The weight is read through a transposed view; nothing is copied.
pub(super) fn linear(x: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32]) {
    let x = Matrix::new(x, shape.rows, shape.inputs);
    let weight = Matrix::new(weight, shape.outputs, shape.inputs).transposed();
    tiled(MatrixMut::new(out, shape.rows, shape.outputs), x, weight, false);
}

/// `gradient[row, output] · weight[output, input]`, tiled as the forward product.
pub(super) fn linear_input(
    gradient: &[f32],
    weight: &[f32],
    shape: LinearShape,
    out: &mut [f32],
    accumulate: bool,
) {
    let gradient = Matrix::new(gradient, shape.rows, shape.outputs);
    let weight = Matrix::new(weight, shape.outputs, shape.inputs);
    tiled(MatrixMut::new(out, shape.rows, shape.inputs), gradient, weight, accumulate);
}

/// Every tile of the weight sums over all tokens itself, so no two threads share a sum.
pub(super) fn linear_weight(
    gradient: &[f32],
    x: &[f32],
    shape: LinearShape,
    out: &mut [f32],
    accumulate: bool,
) {
    let gradient = Matrix::new(gradient, shape.rows, shape.outputs).transposed();
    let x = Matrix::new(x, shape.rows, shape.inputs);
    tiled(MatrixMut::new(out, shape.outputs, shape.inputs), gradient, x, accumulate);
}

/// Rows of a tile whose right side is prepared, about: whole groups of strips.
const PREPARED_ROWS: usize = 192;
/// Tiles at least, so that threads have something to share.
const LEAST_TILES: usize = 4;
/// Rows from which on a right side is prepared for several tiles.
const WORTH_PREPARING: usize = 96;
/// Numbers of a right side that are prepared at a time, and steps of its inner axis.
const PREPARED: usize = 4 << 20;
const PREPARED_STEPS: usize = 4096;

/// One task for each tile of the result. An entry is summed in one order, whether its right side was prepared or not.
fn tiled(mut out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (rows, columns, inner) = (out.rows(), out.columns(), left.columns());
    // Products by gemm have nothing to prepare, and their bits may depend on how columns and steps are cut: one way for any number of rows.
    if rows < WORTH_PREPARING || !own_kernels() {
        return unprepared(out, left, right, accumulate);
    }
    let height = prepared_height(rows);
    let width = (PREPARED / inner.clamp(1, PREPARED_STEPS)).max(TILE_COLUMNS);
    for first in (0..columns).step_by(width) {
        let across = first..(first + width).min(columns);
        for start in (0..inner.max(1)).step_by(PREPARED_STEPS) {
            let steps = start..(start + PREPARED_STEPS).min(inner);
            let prepared = Prepared::new(right.window(steps.clone(), across.clone()));
            let tiles = out.window(0..rows, across.clone()).tiles(height, across.len());
            run(tiles.into_iter().enumerate().collect(), |(index, tile)| {
                let top = index * height;
                let rows = |top: usize| left.window(top..(top + height).min(rows), steps.clone());
                let next = (top + height < left.rows).then(|| rows(top + height));
                prepared.product(tile, rows(top), accumulate || start > 0, next);
            });
        }
    }
}

/// Rows of each tile: an even number of tiles of about one height, so that a few threads end together.
fn prepared_height(rows: usize) -> usize {
    let count = rows.div_ceil(PREPARED_ROWS).max(LEAST_TILES).next_multiple_of(2);
    rows.div_ceil(count).next_multiple_of(4)
}

/// Tiles each of which lays out its part of the right side itself.
fn unprepared(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (columns, inner) = (out.columns(), left.columns());
    let across = columns.div_ceil(TILE_COLUMNS).max(1);
    let tasks: Vec<_> = out.tiles(TILE_ROWS, TILE_COLUMNS).into_iter().enumerate().collect();
    run(tasks, |(index, tile)| {
        let (top, first) = (index / across * TILE_ROWS, index % across * TILE_COLUMNS);
        let rows = left.window(top..top + tile.rows(), 0..inner);
        let columns = right.window(0..inner, first..first + tile.columns());
        product(tile, rows, columns, 1.0, accumulate);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_same_bits_whether_the_right_side_was_prepared_or_not() {
        let (inputs, outputs) = (PREPARED_STEPS + 300, TILE_COLUMNS + 40);
        let numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i * 7919 % 1009) as f32 - 504.5).collect() };
        let (x, weight) = (numbers((WORTH_PREPARING + 5) * inputs), numbers(outputs * inputs));
        let rows = |rows: usize| {
            let mut out = vec![0.0; rows * outputs];
            linear(&x[..rows * inputs], &weight, LinearShape { rows, inputs, outputs }, &mut out);
            out.truncate(7 * outputs);
            out
        };
        assert_eq!(rows(7), rows(WORTH_PREPARING + 5));
    }
}

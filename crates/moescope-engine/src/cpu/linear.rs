//! Dense products, cut into tiles whose size depends on the shape alone.

use super::chunks::run;
use super::matrix::{Matrix, MatrixMut};
use super::product::{Prepared, product};
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

/// Rows of a tile whose right side is prepared: whole groups of strips, and enough tiles for every thread.
const PREPARED_ROWS: usize = 192;
/// Numbers of a right side that are prepared at a time, and steps of its inner axis.
const PREPARED: usize = 4 << 20;
const PREPARED_STEPS: usize = 4096;

/// One task for each tile of the result. The inner axis is cut by its length alone, so every entry is summed in one order.
fn tiled(mut out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (rows, columns, inner) = (out.rows(), out.columns(), left.columns());
    if rows <= TILE_ROWS {
        return few_rows(out, left, right, accumulate);
    }
    let width = (PREPARED / inner.clamp(1, PREPARED_STEPS)).max(TILE_COLUMNS);
    for first in (0..columns).step_by(width) {
        let across = first..(first + width).min(columns);
        for start in (0..inner.max(1)).step_by(PREPARED_STEPS) {
            let steps = start..(start + PREPARED_STEPS).min(inner);
            let prepared = Prepared::new(right.window(steps.clone(), across.clone()));
            let tiles = out.window(0..rows, across.clone()).tiles(PREPARED_ROWS, across.len());
            run(tiles.into_iter().enumerate().collect(), |(index, tile)| {
                let top = index * PREPARED_ROWS;
                let left = left.window(top..top + tile.rows(), steps.clone());
                prepared.product(tile, left, accumulate || start > 0);
            });
        }
    }
}

/// Tiles of columns, each of which lays out its part of the right side itself.
fn few_rows(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (rows, inner) = (out.rows(), left.columns());
    let tiles = out.tiles(rows, TILE_COLUMNS);
    run(tiles.into_iter().enumerate().collect(), |(index, tile)| {
        let first = index * TILE_COLUMNS;
        let columns = right.window(0..inner, first..first + tile.columns());
        product(tile, left.window(0..rows, 0..inner), columns, 1.0, accumulate);
    });
}

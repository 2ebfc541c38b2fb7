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

/// Rows of a tile whose right side is prepared, about: whole groups of strips.
const PREPARED_ROWS: usize = 192;
/// Tiles at least, so that threads have something to share.
const LEAST_TILES: usize = 4;
/// Rows from which on a right side is prepared for several tiles.
const WORTH_PREPARING: usize = 96;
/// Numbers of a right side that are prepared at a time, and steps of its inner axis.
const PREPARED: usize = 4 << 20;
const PREPARED_STEPS: usize = 4096;

/// One task for each tile of the result. The inner axis is cut by its length alone, so every entry is summed in one order.
fn tiled(mut out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (rows, columns, inner) = (out.rows(), out.columns(), left.columns());
    if rows < WORTH_PREPARING {
        return few_rows(out, left, right, accumulate);
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
                let left = left.window(top..top + tile.rows(), steps.clone());
                prepared.product(tile, left, accumulate || start > 0);
            });
        }
    }
}

/// Rows of each tile: an even number of tiles of about one height, so that a few threads end together.
fn prepared_height(rows: usize) -> usize {
    let count = rows.div_ceil(PREPARED_ROWS).max(LEAST_TILES).next_multiple_of(2);
    rows.div_ceil(count).next_multiple_of(4)
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

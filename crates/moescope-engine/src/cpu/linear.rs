//! Dense products, cut into tiles whose size depends on the shape alone.

use super::chunks::run;
use super::matrix::{Matrix, MatrixMut};
use super::product::product;
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

/// One task for each tile of the result. The inner axis is never cut, so every entry is summed by one task.
fn tiled(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    let (height, width) = (TILE_ROWS, TILE_COLUMNS);
    let (columns, inner) = (out.columns(), left.columns());
    let across = columns.div_ceil(width).max(1);
    let tasks: Vec<_> = out.tiles(height, width).into_iter().enumerate().collect();
    run(tasks, |(index, tile)| {
        let (top, left_edge) = (index / across * height, index % across * width);
        let rows = left.window(top..top + tile.rows(), 0..inner);
        let columns = right.window(0..inner, left_edge..left_edge + tile.columns());
        product(tile, rows, columns, 1.0, accumulate);
    });
}

//! Experts' products that read and write token rows where they are: no copy of the slot rows is ever stored.
//!
//! The products take the names of token rows, on either side or in the result, so nothing is gathered or scattered around them.

use std::ops::Range;

use super::chunks::run;
use super::experts::{Share, expert_matrix, expert_rows, pieces, shares};
use super::linear::TILE_ROWS;
use super::matrix::{Matrix, MatrixMut};
use super::product::{Names, SummedRows, add_product_to_rows, product_of_rows, sum_over_rows};
use super::vector::{dot, vectorised};
use crate::{LinearShape, RoutePlan};

/// Columns of a task that adds to tokens. Fixed, since a product by gemm may depend on how columns are cut; wide, since tokens are
/// looked up once for all of them.
const SUM_COLUMNS: usize = 256;

/// Which way an expert's matrix `[output, input]` is multiplied.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// From inputs to outputs.
    Forward,
    /// From outputs to inputs, as gradients go.
    Back,
}

/// One expert's matrix, as the right side of a product.
fn right(weight: &[f32], expert: usize, shape: LinearShape, way: Way) -> Matrix<'_> {
    match way {
        Way::Forward => expert_matrix(weight, expert, shape).transposed(),
        Way::Back => expert_matrix(weight, expert, shape),
    }
}

/// Each slot row's token row `x[token, ...]` times its expert's matrix, `[slot_row, ...]`.
pub(super) fn from_tokens(
    x: &[f32],
    weight: &[f32],
    plan: &RoutePlan,
    (shape, way): (LinearShape, Way),
    out: &mut [f32],
) {
    let width = x.len() / plan.tokens().max(1);
    let columns = out.len() / plan.rows().max(1);
    let x = Matrix::new(x, plan.tokens(), width);
    each_part(plan, columns, out, |(expert, rows), part| {
        let out = MatrixMut::new(part, rows.len(), columns);
        product_of_rows(out, x, &plan.row_tokens()[rows], right(weight, expert, shape, way));
    });
}

/// Runs `work(share, its rows of out)` for every share.
fn each_part(
    plan: &RoutePlan,
    columns: usize,
    mut out: &mut [f32],
    work: impl Fn(Share, &mut [f32]) + Sync + Send,
) {
    let mut tasks = Vec::new();
    for (expert, rows) in shares(plan) {
        let (part, rest) = out.split_at_mut(rows.len() * columns);
        out = rest;
        tasks.push(((expert, rows), part));
    }
    run(tasks, |(share, part)| work(share, part));
}

/// Each slot row times its expert's matrix and the slot's factor, summed for each token by ascending expert.
///
/// A task has some columns of some tokens to itself and adds to them expert by expert, so neither their number nor that of the
/// threads moves a bit.
pub(super) fn to_tokens(
    rows: &[f32],
    weight: &[f32],
    plan: &RoutePlan,
    (shape, way): (LinearShape, Way),
    factors: Option<&[f32]>,
    (out, accumulate): (&mut [f32], bool),
) {
    let width = out.len() / plan.tokens().max(1);
    let inner = rows.len() / plan.rows().max(1);
    if !accumulate {
        out.fill(0.0);
    }
    let rows = Matrix::new(rows, plan.rows(), inner);
    let across = width.div_ceil(SUM_COLUMNS).max(1);
    let height = plan.tokens().div_ceil(rayon::current_num_threads().div_ceil(across)).max(1);
    let tiles = MatrixMut::new(out, plan.tokens(), width).tiles(height, SUM_COLUMNS);
    run(tiles.into_iter().enumerate().collect(), |(index, mut tile)| {
        let (first, column) = (index / across * height, index % across * SUM_COLUMNS);
        let columns = column..column + tile.columns();
        for expert in 0..plan.experts() {
            let share = rows_of_tokens(plan, expert, first..first + tile.rows());
            if share.is_empty() {
                continue;
            }
            let factors = factors.map(|factors| row_factors(plan, factors, share.clone()));
            let names =
                Names { first, names: &plan.row_tokens()[share.clone()], factors: factors.as_deref() };
            let matrix = right(weight, expert, shape, way).window(0..inner, columns.clone());
            add_product_to_rows(&mut tile, names, rows.window(share, 0..inner), matrix);
        }
    });
}

/// The slot rows of an expert that belong to some tokens: neighbours, since an expert's rows ascend by token.
fn rows_of_tokens(plan: &RoutePlan, expert: usize, tokens: Range<usize>) -> Range<usize> {
    let all = expert_rows(plan, expert);
    let names = &plan.row_tokens()[all.clone()];
    let before = |end: usize| names.partition_point(|&token| (token as usize) < end);
    all.start + before(tokens.start)..all.start + before(tokens.end)
}

/// The factor of each of these slot rows.
fn row_factors(plan: &RoutePlan, factors: &[f32], rows: Range<usize>) -> Vec<f32> {
    plan.slot_of_row()[rows].iter().map(|&slot| factors[slot as usize]).collect()
}

/// Runs `work(share, first matrix row, part of the expert's matrix, whether to add)` so that each part is written by one task, a
/// share at a time in order; experts without tokens are zeros.
fn each_matrix_part(
    plan: &RoutePlan,
    shape: LinearShape,
    (out, accumulate): (&mut [f32], bool),
    work: impl Fn(Range<usize>, Range<usize>, MatrixMut<'_>, bool) + Sync + Send,
) {
    let mut tasks = Vec::new();
    for (expert, matrix) in out.chunks_mut((shape.outputs * shape.inputs).max(1)).enumerate() {
        let parts = matrix.chunks_mut(TILE_ROWS * shape.inputs).enumerate();
        tasks.extend(parts.map(|(index, part)| (expert, index * TILE_ROWS, part)));
    }
    run(tasks, |(expert, first, part)| {
        let all = expert_rows(plan, expert);
        if all.is_empty() && !accumulate {
            part.fill(0.0);
        }
        let height = part.len() / shape.inputs;
        for rows in pieces(all.clone()) {
            let add = accumulate || rows.start > all.start;
            let out = MatrixMut::new(part, height, shape.inputs);
            work(rows, first..first + height, out, add);
        }
    });
}

/// Gradient of [`from_tokens`] for the matrices, from that of its results.
pub(super) fn from_tokens_weight(
    gradient: &[f32],
    x: &[f32],
    plan: &RoutePlan,
    shape: LinearShape,
    out: (&mut [f32], bool),
) {
    let gradient = Matrix::new(gradient, plan.rows(), shape.outputs);
    let x = Matrix::new(x, plan.tokens(), shape.inputs);
    each_matrix_part(plan, shape, out, |rows, outputs, part, add| {
        let names = Some(&plan.row_tokens()[rows.clone()]);
        let right = SummedRows { matrix: x, names, factors: None };
        let left = SummedRows { matrix: gradient.window(rows, outputs), names: None, factors: None };
        sum_over_rows(part, left, right, add);
    });
}

/// Gradient of [`to_tokens`] for the matrices, from that of the tokens.
///
/// A slot's factor multiplies its row.
pub(super) fn to_tokens_weight(
    gradient: &[f32],
    rows: &[f32],
    factors: &[f32],
    plan: &RoutePlan,
    shape: LinearShape,
    out: (&mut [f32], bool),
) {
    let gradient = Matrix::new(gradient, plan.tokens(), shape.outputs);
    let rows = Matrix::new(rows, plan.rows(), shape.inputs);
    each_matrix_part(plan, shape, out, |share, outputs, part, add| {
        let names = Some(&plan.row_tokens()[share.clone()]);
        let matrix = gradient.window(0..plan.tokens(), outputs);
        let left = SummedRows { matrix, names, factors: None };
        let factors = row_factors(plan, factors, share.clone());
        let matrix = rows.window(share, 0..shape.inputs);
        sum_over_rows(part, left, SummedRows { matrix, names: None, factors: Some(&factors) }, add);
    });
}

/// From `pulled[slot_row, input]`, the tokens' gradient times each expert's matrix, to the gradients of [`to_tokens`] for its rows
/// (in place) and, if wanted, for its factors.
pub(super) fn share_out(
    pulled: &mut [f32],
    rows: &[f32],
    factors: &[f32],
    plan: &RoutePlan,
    mut factors_gradient: Option<&mut [f32]>,
) {
    let width = (rows.len() / plan.rows().max(1)).max(1);
    let pairs = pulled.chunks_exact_mut(width).zip(rows.chunks_exact(width));
    for ((pulled, row), &slot) in pairs.zip(plan.slot_of_row()) {
        if let Some(out) = &mut factors_gradient {
            out[slot as usize] = row_product(row, pulled);
        }
        scale_row(pulled, factors[slot as usize]);
    }
}

vectorised! {
    fn row_product<'a>(a: &'a [f32], b: &'a [f32]) -> f32 {
        dot(a, b)
    }
}

vectorised! {
    fn scale_row<'a>(row: &'a mut [f32], factor: f32) {
        for entry in row {
            *entry *= factor;
        }
    }
}

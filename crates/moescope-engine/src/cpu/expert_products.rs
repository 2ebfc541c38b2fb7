//! Experts' products that read and write token rows where they are: no copy of the slot rows is ever stored.
//!
//! The products take the names of token rows, on either side or in the result, so nothing is gathered or scattered around them.

use std::ops::Range;

use super::chunks::run;
use super::experts::{Share, expert_matrix, expert_rows, pieces, shares};
use super::linear::TILE_ROWS;
use super::matrix::{Matrix, MatrixMut};
use super::product::{
    Names, RowProduct, Summed, SummedRows, add_product_to_rows, product_of_rows, sum_over_rows,
};
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
    let sides = |(expert, rows): Share| RowProduct {
        left: x,
        names: Some(&plan.row_tokens()[rows]),
        right: right(weight, expert, shape, way),
    };
    each_part(plan, columns, out, |share, next, part| {
        let out = MatrixMut::new(part, share.1.len(), columns);
        product_of_rows(out, sides(share), next.map(sides));
    });
}

/// Runs `work(share, the next one, its rows of out)` for every share.
fn each_part(
    plan: &RoutePlan,
    columns: usize,
    mut out: &mut [f32],
    work: impl Fn(Share, Option<Share>, &mut [f32]) + Sync + Send,
) {
    let shares = shares(plan);
    let following = shares.iter().skip(1).cloned().map(Some).chain([None]);
    let mut tasks = Vec::new();
    for (share, next) in shares.iter().cloned().zip(following) {
        let (part, rest) = out.split_at_mut(share.1.len() * columns);
        out = rest;
        tasks.push((share, next, part));
    }
    run(tasks, |(share, next, part)| work(share, next, part));
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
        let of_tile = |expert| (expert, rows_of_tokens(plan, expert, first..first + tile.rows()));
        let shares: Vec<Share> =
            (0..plan.experts()).map(of_tile).filter(|(_, rows)| !rows.is_empty()).collect();
        let sides = |(expert, share): &Share| RowProduct {
            left: rows.window(share.clone(), 0..inner),
            names: None,
            right: right(weight, *expert, shape, way).window(0..inner, columns.clone()),
        };
        for (place, share) in shares.iter().enumerate() {
            let factors = factors.map(|factors| row_factors(plan, factors, share.1.clone()));
            let names = &plan.row_tokens()[share.1.clone()];
            let names = Names { first, names, factors: factors.as_deref() };
            add_product_to_rows(&mut tile, names, sides(share), shares.get(place + 1).map(sides));
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

/// Tasks that the matrices' gradients make at least, so that threads end at about the same time.
const MATRIX_TASKS: usize = 16;

/// Rows of a matrix that a task writes: many if there are many experts, since each task packs the expert's rows anew, but not so many that one busy
/// expert keeps a thread for long.
fn matrix_rows(experts: usize, outputs: usize) -> usize {
    let parts = MATRIX_TASKS.div_ceil(experts.max(1));
    outputs.div_ceil(parts).clamp(TILE_ROWS, 4 * TILE_ROWS).min(outputs.max(1))
}

/// Sums over the rows of each expert, `sides(slot rows, matrix rows)`: each part of a matrix is written by one task, a share of its
/// expert at a time in order; experts without tokens are zeros.
fn sum_each_matrix<'a>(
    plan: &RoutePlan,
    shape: LinearShape,
    (out, accumulate): (&mut [f32], bool),
    sides: impl Fn(Range<usize>, Range<usize>) -> Summed<'a> + Sync + Send,
) {
    let height = matrix_rows(plan.experts(), shape.outputs);
    let mut tasks = Vec::new();
    for (expert, matrix) in out.chunks_mut((shape.outputs * shape.inputs).max(1)).enumerate() {
        let parts = matrix.chunks_mut((height * shape.inputs).max(1)).enumerate();
        tasks.extend(parts.map(|(index, part)| (expert, index * height, part)));
    }
    run(tasks, |(expert, first, part)| {
        let all = expert_rows(plan, expert);
        if all.is_empty() && !accumulate {
            part.fill(0.0);
        }
        let outputs = first..first + part.len() / shape.inputs;
        let shares: Vec<_> = pieces(all.clone()).collect();
        for (index, rows) in shares.iter().enumerate() {
            let add = accumulate || rows.start > all.start;
            let out = MatrixMut::new(part, outputs.len(), shape.inputs);
            let next = match shares.get(index + 1) {
                Some(rows) => Some((rows.clone(), outputs.clone())),
                None => after(plan, (expert, outputs.end), (height, shape.outputs)),
            };
            let next = next.map(|(rows, outputs)| sides(rows, outputs));
            sum_over_rows(out, sides(rows.clone(), outputs.clone()), add, next);
        }
    });
}

/// The first share and the matrix rows of the task after that which ends at a row of an expert's matrix.
fn after(
    plan: &RoutePlan,
    (expert, end): (usize, usize),
    (height, outputs): (usize, usize),
) -> Option<(Range<usize>, Range<usize>)> {
    let (expert, first) = if end < outputs { (expert, end) } else { (expert + 1, 0) };
    if expert == plan.experts() {
        return None;
    }
    let share = pieces(expert_rows(plan, expert)).next()?;
    Some((share, first..(first + height).min(outputs)))
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
    sum_each_matrix(plan, shape, out, |rows, outputs| {
        let names = Some(&plan.row_tokens()[rows.clone()]);
        let right = SummedRows { matrix: x, names, factors: None };
        (SummedRows { matrix: gradient.window(rows, outputs), names: None, factors: None }, right)
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
    let factors = row_factors(plan, factors, 0..plan.rows());
    sum_each_matrix(plan, shape, out, |share, outputs| {
        let names = Some(&plan.row_tokens()[share.clone()]);
        let matrix = gradient.window(0..plan.tokens(), outputs);
        let left = SummedRows { matrix, names, factors: None };
        let factors = Some(&factors[share.clone()]);
        (left, SummedRows { matrix: rows.window(share, 0..shape.inputs), names: None, factors })
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

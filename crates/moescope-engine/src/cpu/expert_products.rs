//! Experts' products that read and write token rows where they are: no copy of the slot rows is ever stored.
//!
//! A share's token rows are gathered into a buffer that stays in the cache, or its results go out of one, so memory sees each
//! token row once per slot and never the slot rows themselves.

use std::ops::Range;

use super::chunks::run;
use super::experts::{Share, expert_matrix, expert_rows, pieces, scaled_copy, shares};
use super::linear::TILE_ROWS;
use super::matrix::{Matrix, MatrixMut, product};
use super::vector::{add_scaled, dot, vectorised};
use crate::memory;
use crate::{LinearShape, RoutePlan};

/// Rows of the longest piece. Buffers are taken for as many, whatever a piece has: lengths that all differ would be allocated
/// anew each time.
const MOST_ROWS: usize = TILE_ROWS + TILE_ROWS / 2;

/// Shares whose results wait at a time, for each thread.
const WAITING: usize = 2;

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
    each_part(plan, columns, out, |(expert, rows), part| {
        let mut buffer = memory::take(MOST_ROWS * width);
        let gathered = &mut buffer[..rows.len() * width];
        gather(x, &plan.row_tokens()[rows.clone()], None, width, gathered);
        let left = Matrix::new(gathered, rows.len(), width);
        product(
            MatrixMut::new(part, rows.len(), columns),
            left,
            right(weight, expert, shape, way),
            1.0,
            false,
        );
        memory::give_back(buffer);
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
/// A few shares at a time are multiplied, then added: every thread has some columns to itself and adds the rows in order, so
/// neither the number of threads nor of waiting shares moves a bit.
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
    let threads = rayon::current_num_threads();
    for wave in shares(plan).chunks(if threads == 1 { 1 } else { WAITING * threads }) {
        let all = wave[0].1.start..wave[wave.len() - 1].1.end;
        let mut buffer = memory::take(wave.len() * MOST_ROWS * width);
        let waiting = &mut buffer[..all.len() * width];
        let mut rest = &mut *waiting;
        let mut tasks = Vec::new();
        for (expert, share) in wave {
            let (part, after) = rest.split_at_mut(share.len() * width);
            rest = after;
            tasks.push((*expert, share.clone(), part));
        }
        run(tasks, |(expert, share, part)| {
            let out = MatrixMut::new(part, share.len(), width);
            product(out, rows.window(share, 0..inner), right(weight, expert, shape, way), 1.0, false);
        });
        let columns = MatrixMut::new(out, plan.tokens(), width).tiles(plan.tokens(), width.div_ceil(threads));
        run(columns.into_iter().enumerate().collect(), |(index, mut columns)| {
            scatter(waiting, plan, all.clone(), factors, index * width.div_ceil(threads), &mut columns);
        });
        memory::give_back(buffer);
    }
}

/// Adds waiting rows to their tokens, in the columns from `first` on.
fn scatter(
    waiting: &[f32],
    plan: &RoutePlan,
    rows: Range<usize>,
    factors: Option<&[f32]>,
    first: usize,
    out: &mut MatrixMut<'_>,
) {
    let width = waiting.len() / rows.len();
    for (from, row) in waiting.chunks_exact(width).zip(rows) {
        let factor = factors.map_or(1.0, |factors| factors[plan.slot_of_row()[row] as usize]);
        let target = out.row(plan.row_tokens()[row] as usize);
        add_row(target, &from[first..][..target.len()], factor);
    }
}

vectorised! {
    /// `into += factor * from`, rounded once.
    fn add_row<'a>(into: &'a mut [f32], from: &'a [f32], factor: f32) {
        add_scaled(into, from, factor);
    }
}

/// Copies the named token rows one after the other, each times the factor at its place.
fn gather(x: &[f32], names: &[u32], factors: Option<&[f32]>, width: usize, out: &mut [f32]) {
    for (place, (out, &name)) in out.chunks_exact_mut(width.max(1)).zip(names).enumerate() {
        let row = &x[name as usize * width..][..width];
        match factors {
            None => out.copy_from_slice(row),
            Some(factors) => scaled_copy(row, factors[place], out),
        }
    }
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
    each_matrix_part(plan, shape, out, |rows, outputs, part, add| {
        let mut buffer = memory::take(MOST_ROWS * shape.inputs);
        let gathered = &mut buffer[..rows.len() * shape.inputs];
        gather(x, &plan.row_tokens()[rows.clone()], None, shape.inputs, gathered);
        let right = Matrix::new(gathered, rows.len(), shape.inputs);
        product(part, gradient.window(rows, outputs).transposed(), right, 1.0, add);
        memory::give_back(buffer);
    });
}

/// Gradient of [`to_tokens`] for the matrices, from that of the tokens.
///
/// A slot's factor multiplies the narrower side: its row.
pub(super) fn to_tokens_weight(
    gradient: &[f32],
    rows: &[f32],
    factors: &[f32],
    plan: &RoutePlan,
    shape: LinearShape,
    out: (&mut [f32], bool),
) {
    each_matrix_part(plan, shape, out, |share, outputs, part, add| {
        let mut buffers = [shape.outputs, shape.inputs].map(|width| memory::take(MOST_ROWS * width));
        let [gathered, scaled] = &mut buffers;
        let gathered = &mut gathered[..share.len() * shape.outputs];
        let scaled = &mut scaled[..share.len() * shape.inputs];
        gather(gradient, &plan.row_tokens()[share.clone()], None, shape.outputs, gathered);
        let names: Vec<u32> = share.clone().map(|row| row as u32).collect();
        let factors = row_factors(plan, factors, share.clone());
        gather(rows, &names, Some(&factors), shape.inputs, scaled);
        let left = Matrix::new(gathered, share.len(), shape.outputs).window(0..share.len(), outputs);
        product(part, left.transposed(), Matrix::new(scaled, share.len(), shape.inputs), 1.0, add);
        buffers.into_iter().for_each(memory::give_back);
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

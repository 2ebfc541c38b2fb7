//! The grouped sweep: all experts in one list of tasks, expert by row tile.

use std::ops::Range;

use super::chunks::{each, rows_per_piece, run};
use super::linear::TILE_ROWS;
use super::matrix::{Matrix, MatrixMut};
use super::product::product;
use super::vector::{add_scaled, dot, sum, vectorised};
use crate::{LinearShape, RoutePlan};

/// An expert and some of its slot rows.
pub(super) type Share = (usize, Range<usize>);

/// Every expert's slot rows in pieces, in order; nothing for an expert without tokens.
pub(super) fn shares(plan: &RoutePlan) -> Vec<Share> {
    let of_expert = |expert: usize| pieces(expert_rows(plan, expert)).map(move |rows| (expert, rows));
    (0..plan.experts()).flat_map(of_expert).collect()
}

/// The slot rows of an expert.
pub(super) fn expert_rows(plan: &RoutePlan, expert: usize) -> Range<usize> {
    plan.offsets()[expert]..plan.offsets()[expert + 1]
}

/// Rows cut into as many pieces as tiles fit best, all of about the same length, up to one and a half tiles.
///
/// A few rows more than a tile do not make a piece of their own: it would pack the expert's whole matrix for them.
pub(super) fn pieces(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let length = rows.len();
    let count = if length == 0 { 0 } else { ((length + TILE_ROWS / 2) / TILE_ROWS).max(1) };
    (0..count)
        .map(move |piece| rows.start + piece * length / count..rows.start + (piece + 1) * length / count)
}

/// Runs `work(expert, rows, their part of out)` for every share.
fn each_share(
    plan: &RoutePlan,
    width: usize,
    mut out: &mut [f32],
    work: impl Fn(usize, Range<usize>, MatrixMut<'_>) + Sync + Send,
) {
    let mut tasks = Vec::new();
    for (expert, rows) in shares(plan) {
        let (part, rest) = out.split_at_mut(rows.len() * width);
        out = rest;
        tasks.push((expert, rows, part));
    }
    run(tasks, |(expert, rows, part)| {
        let height = rows.len();
        work(expert, rows, MatrixMut::new(part, height, width));
    });
}

/// The matrix of one expert: `[output, input]`.
pub(super) fn expert_matrix(weight: &[f32], expert: usize, shape: LinearShape) -> Matrix<'_> {
    let size = shape.outputs * shape.inputs;
    Matrix::new(&weight[expert * size..][..size], shape.outputs, shape.inputs)
}

/// A share is one product: some rows of one expert with its whole matrix. A busy expert has many shares, so threads
/// stay busy however uneven the load is.
pub(super) fn expert_linear(
    rows: &[f32],
    weight: &[f32],
    plan: &RoutePlan,
    shape: LinearShape,
    out: &mut [f32],
) {
    let all = Matrix::new(rows, shape.rows, shape.inputs);
    each_share(plan, shape.outputs, out, |expert, rows, out| {
        let matrix = expert_matrix(weight, expert, shape).transposed();
        product(out, all.window(rows, 0..shape.inputs), matrix, 1.0, false);
    });
}

/// As [`expert_linear`], with the matrix as it is instead of turned over.
pub(super) fn expert_linear_input(
    gradient: &[f32],
    weight: &[f32],
    plan: &RoutePlan,
    shape: LinearShape,
    out: &mut [f32],
    accumulate: bool,
) {
    let all = Matrix::new(gradient, shape.rows, shape.outputs);
    each_share(plan, shape.inputs, out, |expert, rows, out| {
        product(
            out,
            all.window(rows, 0..shape.outputs),
            expert_matrix(weight, expert, shape),
            1.0,
            accumulate,
        );
    });
}

/// One task for each tile of an expert's matrix, with the sum over all its tokens inside.
pub(super) fn expert_linear_weight(
    gradient: &[f32],
    rows: &[f32],
    plan: &RoutePlan,
    shape: LinearShape,
    out: &mut [f32],
    accumulate: bool,
) {
    let gradient = Matrix::new(gradient, shape.rows, shape.outputs);
    let rows = Matrix::new(rows, shape.rows, shape.inputs);
    let tile = TILE_ROWS * shape.inputs;
    let mut tasks = Vec::new();
    for (expert, matrix) in out.chunks_mut((shape.outputs * shape.inputs).max(1)).enumerate() {
        tasks.extend(
            matrix.chunks_mut(tile).enumerate().map(|(index, part)| (expert, index * TILE_ROWS, part)),
        );
    }
    run(tasks, |(expert, first, part)| {
        let tokens = plan.offsets()[expert]..plan.offsets()[expert + 1];
        if tokens.is_empty() {
            if !accumulate {
                part.fill(0.0);
            }
            return;
        }
        let height = part.len() / shape.inputs;
        let left = gradient.window(tokens.clone(), first..first + height).transposed();
        let out = MatrixMut::new(part, height, shape.inputs);
        product(out, left, rows.window(tokens, 0..shape.inputs), 1.0, accumulate);
    });
}

/// `weights[token, slot]` decide; the order of the sum is that of the experts, as in the product that combines at once.
///
/// No two tasks write one token.
pub(super) fn expert_combine(rows: &[f32], weights: &[f32], plan: &RoutePlan, out: &mut [f32]) {
    let width = (out.len() / plan.tokens().max(1)).max(1);
    each(out, rows_per_piece(width) * width, |start, out| {
        combine_tokens(rows, weights, plan, start / width, width, out);
    });
}

vectorised! {
    /// Tokens from number `first` on.
    fn combine_tokens<'a>(
        rows: &'a [f32],
        weights: &'a [f32],
        plan: &'a RoutePlan,
        first: usize,
        width: usize,
        out: &'a mut [f32],
    ) {
        let slots = plan.per_token();
        let mut order = Vec::with_capacity(slots);
        out.fill(0.0);
        for (token, out) in (first..).zip(out.chunks_exact_mut(width)) {
            order.clear();
            order.extend_from_slice(&plan.row_of_slot()[token * slots..(token + 1) * slots]);
            order.sort_unstable();
            for &row in &order {
                let row = row as usize;
                let weight = weights[plan.slot_of_row()[row] as usize];
                add_scaled(out, &rows[row * width..][..width], weight);
            }
        }
    }
}

/// For a row, its token's gradient times its weight; for a weight, the product of its row with its token's gradient.
pub(super) fn expert_combine_backward(
    (rows, weights): (&[f32], &[f32]),
    plan: &RoutePlan,
    gradient: &[f32],
    rows_gradient: Option<&mut [f32]>,
    weights_gradient: Option<&mut [f32]>,
) {
    let width = (gradient.len() / plan.tokens().max(1)).max(1);
    if let Some(out) = rows_gradient {
        spread(weights, plan, gradient, width, out);
    }
    if let Some(out) = weights_gradient {
        let slots = rows_per_piece(width) * plan.per_token();
        each(out, slots, |start, out| slot_products(rows, plan, gradient, start, width, out));
    }
}

vectorised! {
    /// Each slot row times its token's gradient, for slots from number `first` on.
    fn slot_products<'a>(
        rows: &'a [f32],
        plan: &'a RoutePlan,
        gradient: &'a [f32],
        first: usize,
        width: usize,
        out: &'a mut [f32],
    ) {
        for (slot, out) in (first..).zip(out) {
            let upstream = &gradient[slot / plan.per_token() * width..][..width];
            *out = dot(&rows[plan.row_of_slot()[slot] as usize * width..][..width], upstream);
        }
    }
}

/// Each slot row gets its token's gradient times the slot's weight.
fn spread(weights: &[f32], plan: &RoutePlan, gradient: &[f32], width: usize, out: &mut [f32]) {
    let rows = rows_per_piece(width);
    each(out, rows * width, |start, out| {
        for (out, &slot) in out.chunks_exact_mut(width).zip(&plan.slot_of_row()[start / width..]) {
            let token = slot as usize / plan.per_token();
            scaled_copy(&gradient[token * width..][..width], weights[slot as usize], out);
        }
    });
}

vectorised! {
    /// `factor * from`.
    pub(super) fn scaled_copy<'a>(from: &'a [f32], factor: f32, out: &'a mut [f32]) {
        for (out, &from) in out.iter_mut().zip(from) {
            *out = factor * from;
        }
    }
}

/// In `f64`, token by token: the sums are short and their order is fixed.
pub(super) fn balance_loss(scores: &[f32], plan: &RoutePlan) -> f32 {
    let shares = mean_shares(scores, plan.experts());
    let slots = plan.rows().max(1) as f64;
    let overlap: f64 =
        plan.counts().iter().zip(shares).map(|(&count, share)| count as f64 / slots * share).sum();
    (plan.experts() as f64 * overlap) as f32
}

/// Mean over tokens of each expert's share of the token's scores.
fn mean_shares(scores: &[f32], experts: usize) -> Vec<f64> {
    let mut shares = vec![0.0; experts];
    for row in scores.chunks_exact(experts) {
        let total: f64 = row.iter().map(|&score| f64::from(score)).sum();
        for (share, &score) in shares.iter_mut().zip(row) {
            *share += f64::from(score) / total;
        }
    }
    let tokens = (scores.len() / experts).max(1) as f64;
    shares.iter_mut().for_each(|share| *share /= tokens);
    shares
}

/// `ds = (f - Σ f p) n / (tokens Σ s)` for each row, with `p = s / Σ s`.
pub(super) fn balance_loss_backward(scores: &[f32], plan: &RoutePlan, factor: f32, out: &mut [f32]) {
    let experts = plan.experts();
    let scale = f64::from(factor) * experts as f64 / (plan.tokens().max(1) * plan.rows().max(1)) as f64;
    let pull: Vec<f32> = plan.counts().iter().map(|&count| (scale * count as f64) as f32).collect();
    each(out, rows_per_piece(experts) * experts, |start, out| {
        balance_rows(&scores[start..][..out.len()], &pull, out);
    });
}

vectorised! {
    /// `pull[expert]` is what one more unit of share costs; only its distance from the token's mean moves the scores.
    fn balance_rows<'a>(scores: &'a [f32], pull: &'a [f32], out: &'a mut [f32]) {
        for (row, out) in scores.chunks_exact(pull.len()).zip(out.chunks_exact_mut(pull.len())) {
            let total = sum(row);
            let mean = dot(pull, row) / total;
            for (out, &pull) in out.iter_mut().zip(pull) {
                *out = (pull - mean) / total;
            }
        }
    }
}

//! Kernels that treat each row on its own.

use super::chunks::{each, each_pair, rows_per_piece};
use super::vector::{add_scaled, dot, exp, exp_shifted, largest, sum, sum_exp, vectorised};
use crate::IGNORE;

/// Runs `work(x, columns, out)` on pieces of whole rows.
fn each_rows(
    x: &[f32],
    columns: usize,
    out: &mut [f32],
    work: impl for<'a> Fn(&'a [f32], usize, &'a mut [f32]) + Sync + Send,
) {
    let columns = columns.max(1);
    each(out, rows_per_piece(columns) * columns, |start, out| {
        let x = &x[start..][..out.len()];
        work(x, columns, out);
    });
}

pub(super) fn softmax(x: &[f32], columns: usize, out: &mut [f32]) {
    each_rows(x, columns, out, softmax_rows);
}

vectorised! {
    /// `exp(x - max)` over its sum.
    fn softmax_rows<'a>(x: &'a [f32], columns: usize, out: &'a mut [f32]) {
        for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
            let scale = 1.0 / exp_shifted(x, largest(x), out);
            for out in out {
                *out *= scale;
            }
        }
    }
}

pub(super) fn softmax_backward(y: &[f32], columns: usize, gradient: &mut [f32]) {
    each_rows(y, columns, gradient, softmax_backward_rows);
}

vectorised! {
    fn softmax_backward_rows<'a>(y: &'a [f32], columns: usize, gradient: &'a mut [f32]) {
        for (y, gradient) in y.chunks_exact(columns).zip(gradient.chunks_exact_mut(columns)) {
            let mean = dot(y, gradient);
            for (gradient, &y) in gradient.iter_mut().zip(y) {
                *gradient = y * (*gradient - mean);
            }
        }
    }
}

pub(super) fn renormalise(x: &[f32], columns: usize, out: &mut [f32]) {
    each_rows(x, columns, out, renormalise_rows);
}

vectorised! {
    fn renormalise_rows<'a>(x: &'a [f32], columns: usize, out: &'a mut [f32]) {
        for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
            let total = sum(x);
            for (out, &x) in out.iter_mut().zip(x) {
                *out = x / total;
            }
        }
    }
}

pub(super) fn renormalise_backward(x: &[f32], columns: usize, gradient: &mut [f32]) {
    each_rows(x, columns, gradient, renormalise_backward_rows);
}

vectorised! {
    fn renormalise_backward_rows<'a>(x: &'a [f32], columns: usize, gradient: &'a mut [f32]) {
        for (x, gradient) in x.chunks_exact(columns).zip(gradient.chunks_exact_mut(columns)) {
            let total = sum(x);
            let mean = dot(x, gradient) / total;
            for gradient in gradient {
                *gradient = (*gradient - mean) / total;
            }
        }
    }
}

pub(super) fn log_sum_exp(x: &[f32], columns: usize, out: &mut [f32]) {
    each(out, rows_per_piece(columns), |start, out| {
        log_sum_exp_rows(&x[start * columns..][..out.len() * columns], columns, out);
    });
}

vectorised! {
    fn log_sum_exp_rows<'a>(x: &'a [f32], columns: usize, out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(columns)) {
            let highest = largest(x);
            *out = highest + sum_exp(x, highest).ln();
        }
    }
}

vectorised! {
    fn scaled_exp<'a>(x: &'a [f32], shift: f32, factor: f32, out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = factor * exp(x - shift);
        }
    }
}

pub(super) fn scaled_softmax(
    x: &[f32],
    log_sums: &[f32],
    factors: &[f32],
    targets: Option<&[u32]>,
    out: &mut [f32],
) {
    let columns = (out.len() / log_sums.len().max(1)).max(1);
    let rows = rows_per_piece(columns);
    each(out, rows * columns, |start, out| {
        let first = start / columns;
        let x = &x[start..][..out.len()];
        for (index, (x, out)) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)).enumerate() {
            let (log_sum, factor) = (log_sums[first + index], factors[first + index]);
            scaled_exp(x, log_sum, factor, out);
            if let Some(target) =
                targets.map(|targets| targets[first + index]).filter(|&target| target != IGNORE)
            {
                out[target as usize] -= factor;
            }
        }
    });
}

pub(super) fn top_k_activation(x: &[f32], columns: usize, k: usize, out: &mut [f32], kept: &mut [u32]) {
    let rows = rows_per_piece(columns);
    each_pair((out, rows * columns), (kept, rows * k), |index, out, kept| {
        let x = &x[index * rows * columns..][..out.len()];
        let mut order: Vec<u32> = Vec::with_capacity(columns);
        out.fill(0.0);
        let rows = x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)).zip(kept.chunks_exact_mut(k));
        for ((x, out), kept) in rows {
            strongest(x, k, &mut order);
            kept.copy_from_slice(&order[..k]);
            kept.iter().for_each(|&column| out[column as usize] = x[column as usize]);
        }
    });
}

/// The columns of the `k` largest magnitudes, ascending, in the first `k` entries of `order`.
fn strongest(x: &[f32], k: usize, order: &mut Vec<u32>) {
    order.clear();
    order.extend(0..x.len() as u32);
    let by_strength = |a: &u32, b: &u32| {
        let (left, right) = (x[*a as usize].abs(), x[*b as usize].abs());
        right.total_cmp(&left).then(a.cmp(b))
    };
    if k < x.len() {
        order.select_nth_unstable_by(k - 1, by_strength);
    }
    order[..k].sort_unstable();
}

pub(super) fn gather_columns(x: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]) {
    let rows = rows_per_piece(per_row);
    each(out, rows * per_row, |start, out| {
        let first = start / per_row.max(1);
        for (index, entry) in out.iter_mut().enumerate() {
            let row = first + index / per_row;
            *entry = x[row * columns + indices[start + index] as usize];
        }
    });
}

pub(super) fn scatter_columns(
    gradient: &[f32],
    columns: usize,
    indices: &[u32],
    per_row: usize,
    out: &mut [f32],
) {
    let columns = columns.max(1);
    each(out, rows_per_piece(columns) * columns, |start, out| {
        out.fill(0.0);
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            let first = (start / columns + row) * per_row;
            for slot in first..first + per_row {
                out[indices[slot] as usize] += gradient[slot];
            }
        }
    });
}

pub(super) fn embedding(table: &[f32], ids: &[u32], out: &mut [f32]) {
    let width = (out.len() / ids.len().max(1)).max(1);
    copy_rows(table, ids, width, out);
}

/// Copies the named rows, each of `width` numbers, one after the other.
pub(super) fn copy_rows(from: &[f32], names: &[u32], width: usize, out: &mut [f32]) {
    each(out, rows_per_piece(width) * width, |start, out| {
        for (out, &row) in out.chunks_exact_mut(width).zip(&names[start / width..]) {
            out.copy_from_slice(&from[row as usize * width..][..width]);
        }
    });
}

/// Each piece of the table looks through all ids for its own, in token order: no two threads write one row.
pub(super) fn embedding_backward(gradient: &[f32], ids: &[u32], table_gradient: &mut [f32]) {
    const ENTRIES: usize = 1024;
    let width = (gradient.len() / ids.len().max(1)).max(1);
    each(table_gradient, ENTRIES * width, |start, out| {
        add_named(gradient, ids, width, start / width, out);
    });
}

vectorised! {
    /// Adds the rows whose ids lie in this piece of the table, which begins at `first`.
    fn add_named<'a>(gradient: &'a [f32], ids: &'a [u32], width: usize, first: usize, out: &'a mut [f32]) {
        let last = first + out.len() / width;
        for (&id, gradient) in ids.iter().zip(gradient.chunks_exact(width)) {
            let id = id as usize;
            if first <= id && id < last {
                add_scaled(&mut out[(id - first) * width..][..width], gradient, 1.0);
            }
        }
    }
}

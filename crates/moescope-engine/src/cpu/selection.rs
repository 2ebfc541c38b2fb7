//! Kernels that copy chosen rows and columns, and their transposes, which add.

use super::chunks::{each, each_pair, rows_per_piece};
use super::vector::{add_scaled, vectorised};

/// Kept columns stand in ascending order, so the way back reads a row from left to right.
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

/// Each row belongs to one piece, so repeated indices add up without a lock.
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

/// A copy of one row of the table for each token.
pub(super) fn embedding(table: &[f32], ids: &[u32], out: &mut [f32]) {
    let width = (out.len() / ids.len().max(1)).max(1);
    copy_rows(table, ids, width, out);
}

/// Copies the named rows, each of `width` numbers, one after the other.
fn copy_rows(from: &[f32], names: &[u32], width: usize, out: &mut [f32]) {
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

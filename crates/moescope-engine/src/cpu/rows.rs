//! Kernels that treat each row on its own.

use super::chunks::{each, rows_per_piece};
use super::vector::{dot, exp, exp_shifted, largest, sum, sum_exp, vectorised};
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
    /// `dx = y (g - Σ y g)`.
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
    /// `dx = (g - Σ y g) / Σ x` with `y = x / Σ x`.
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

/// One number for each row, finite for every finite row.
pub(super) fn log_sum_exp(x: &[f32], columns: usize, out: &mut [f32]) {
    each(out, rows_per_piece(columns), |start, out| {
        log_sum_exp_rows(&x[start * columns..][..out.len() * columns], columns, out);
    });
}

vectorised! {
    /// `max + log Σ exp(x - max)`, without a copy of the row.
    fn log_sum_exp_rows<'a>(x: &'a [f32], columns: usize, out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(columns)) {
            let highest = largest(x);
            *out = highest + sum_exp(x, highest).ln();
        }
    }
}

vectorised! {
    /// `factor * exp(x - shift)`: a softmax whose sum is known, times the gradient of its row.
    fn scaled_exp<'a>(x: &'a [f32], shift: f32, factor: f32, out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = factor * exp(x - shift);
        }
    }
}

/// The gradient of cross-entropy with targets, and of the squared log-sum without: both are a softmax times a factor
/// per row.
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

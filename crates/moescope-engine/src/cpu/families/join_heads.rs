//! Heads put together from a half of their own and a half that all share.

use crate::cpu::chunks::{each, each_pair, rows_per_piece};

pub(crate) fn join(own: &[f32], shared: &[f32], heads: usize, tokens: usize, out: &mut [f32]) {
    let (first, second) = (own.len() / (heads * tokens).max(1), shared.len() / tokens.max(1));
    let width = (heads * (first + second)).max(1);
    each(out, rows_per_piece(width) * width, |start, out| {
        for (token, out) in (start / width..).zip(out.chunks_exact_mut(width)) {
            for (head, out) in out.chunks_exact_mut(first + second).enumerate() {
                out[..first].copy_from_slice(&own[(token * heads + head) * first..][..first]);
                out[first..].copy_from_slice(&shared[token * second..][..second]);
            }
        }
    });
}

/// The shared half's gradient sums over the heads of a token in order.
pub(crate) fn part(gradient: &[f32], heads: usize, tokens: usize, own: &mut [f32], shared: &mut [f32]) {
    let (first, second) = (own.len() / (heads * tokens).max(1), shared.len() / tokens.max(1));
    let width = heads * (first + second);
    let rows = rows_per_piece(width);
    each_pair((own, rows * heads * first), (shared, rows * second), |index, own, shared| {
        shared.fill(0.0);
        for (row, shared) in shared.chunks_exact_mut(second).enumerate() {
            let gradient = &gradient[(index * rows + row) * width..][..width];
            for (head, gradient) in gradient.chunks_exact(first + second).enumerate() {
                own[(row * heads + head) * first..][..first].copy_from_slice(&gradient[..first]);
                shared.iter_mut().zip(&gradient[first..]).for_each(|(sum, part)| *sum += part);
            }
        }
    });
}

//! Normalisation to mean zero and variance one.

use crate::cpu::chunks::{each, each_pair, rows_per_piece, sum_partials};
use crate::cpu::vector::{dot, sum, vectorised};
use crate::memory;

/// Mean of a row, and `1 / sqrt(variance + epsilon)`. The mean is taken off first, so that the squares do not cancel.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32, centred: &mut [f32]) -> f32 {
    let mean = sum(x) / x.len() as f32;
    for (out, &x) in centred.iter_mut().zip(x) {
        *out = x - mean;
    }
    1.0 / (dot(centred, centred) / x.len() as f32 + epsilon).sqrt()
}

pub(crate) fn forward(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
    let columns = weight.len().max(1);
    each(out, rows_per_piece(columns) * columns, |start, out| {
        rows(&x[start..][..out.len()], weight, bias, epsilon, out);
    });
}

vectorised! {
    fn rows<'a>(x: &'a [f32], weight: &'a [f32], bias: &'a [f32], epsilon: f32, out: &'a mut [f32]) {
        let columns = weight.len();
        for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
            let scale = moments(x, epsilon, out);
            for ((out, &weight), &bias) in out.iter_mut().zip(weight).zip(bias) {
                *out = (*out * scale).mul_add(weight, bias);
            }
        }
    }
}

/// Gradients of rows, gain and bias, in this order. The last two sum over all rows: each piece has partial sums of its own, and
/// these are added in order.
pub(crate) fn backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &[f32],
    [x_gradient, weight_gradient, bias_gradient]: [&mut [f32]; 3],
) {
    let columns = weight.len().max(1);
    let length = rows_per_piece(columns) * columns;
    let pieces = x.len().div_ceil(length);
    // Partial sums of gain and bias, and room for one centred row: [piece, 3, column].
    let mut partials = memory::take(pieces * 3 * columns);
    each_pair((x_gradient, length), (&mut partials, 3 * columns), |index, out, scratch| {
        let range = index * length..index * length + out.len();
        rows_backward(&x[range.clone()], weight, epsilon, &gradient[range], out, scratch);
    });
    let part = |which: usize| -> Vec<f32> {
        let pieces = partials.chunks_exact(3 * columns);
        pieces.flat_map(|piece| &piece[which * columns..(which + 1) * columns]).copied().collect()
    };
    sum_partials(&part(0), weight_gradient);
    sum_partials(&part(1), bias_gradient);
    memory::give_back(partials);
}

vectorised! {
    /// `dx = s (h - mean(h) - n mean(h n))` with `h = w g` and the normalised row `n`.
    fn rows_backward<'a>(
        x: &'a [f32],
        weight: &'a [f32],
        epsilon: f32,
        gradient: &'a [f32],
        x_gradient: &'a mut [f32],
        scratch: &'a mut [f32],
    ) {
        let columns = weight.len();
        scratch.fill(0.0);
        let (gain, rest) = scratch.split_at_mut(columns);
        let (offset, normal) = rest.split_at_mut(columns);
        let rows = x.chunks_exact(columns).zip(gradient.chunks_exact(columns));
        for ((x, gradient), out) in rows.zip(x_gradient.chunks_exact_mut(columns)) {
            let scale = moments(x, epsilon, normal);
            for (((out, normal), &weight), &gradient) in
                out.iter_mut().zip(normal.iter_mut()).zip(weight).zip(gradient)
            {
                *normal *= scale;
                *out = weight * gradient;
            }
            let mean = sum(out) / columns as f32;
            let pull = dot(out, normal) / columns as f32;
            for (out, &normal) in out.iter_mut().zip(normal.iter()) {
                *out = scale * (*out - mean - normal * pull);
            }
            for (((gain, offset), &normal), &gradient) in
                gain.iter_mut().zip(offset.iter_mut()).zip(normal.iter()).zip(gradient)
            {
                *gain = gradient.mul_add(normal, *gain);
                *offset += gradient;
            }
        }
    }
}

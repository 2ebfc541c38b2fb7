//! Root-mean-square normalisation of rows and of heads, with the rotary turn.

use super::chunks::{each, each_pair, rows_per_piece, sum_partials};
use super::vector::{add_scaled, dot, dot3, vectorised};
use crate::memory;
use crate::{HeadShape, Rotary};

/// `1 / sqrt(mean(x²) + epsilon)`.
#[inline(always)]
fn inverse_root(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// One row of [`rms_norm`]; a head is normalised by the same lines, so both round alike.
#[inline(always)]
fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let scale = inverse_root(x, epsilon);
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// `dx = s (w g) - x s³ mean(w g x)`, `dw += g x s`.
#[inline(always)]
fn norm_row_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &[f32],
    x_gradient: &mut [f32],
    weight_gradient: &mut [f32],
) {
    let scale = inverse_root(x, epsilon);
    let pull = scale * scale * scale * dot3(gradient, weight, x) / x.len() as f32;
    for (((out, &x), &weight), &gradient) in x_gradient.iter_mut().zip(x).zip(weight).zip(gradient) {
        *out = (weight * gradient).mul_add(scale, -pull * x);
    }
    for ((out, &x), &gradient) in weight_gradient.iter_mut().zip(x).zip(gradient) {
        *out = (gradient * x).mul_add(scale, *out);
    }
}

pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let columns = weight.len().max(1);
    let length = rows_per_piece(columns) * columns;
    each(out, length, |start, out| norm_rows(&x[start..][..out.len()], weight, epsilon, out));
}

vectorised! {
    fn norm_rows<'a>(x: &'a [f32], weight: &'a [f32], epsilon: f32, out: &'a mut [f32]) {
        for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            norm_row(x, weight, epsilon, out);
        }
    }
}

/// The gain's gradient sums over all rows: each piece has a partial sum of its own, and these are added in order.
///
/// The root of each row is worked out again, which is cheaper than keeping it.
pub(super) fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    gradient: &[f32],
    x_gradient: &mut [f32],
    weight_gradient: &mut [f32],
) {
    let columns = weight.len().max(1);
    let length = rows_per_piece(columns) * columns;
    let mut partials = memory::take(x.len().div_ceil(length) * columns); // [piece, column]
    each_pair((x_gradient, length), (&mut partials, columns), |index, x_gradient, partial| {
        let range = index * length..index * length + x_gradient.len();
        norm_rows_backward(&x[range.clone()], weight, epsilon, &gradient[range], x_gradient, partial);
    });
    sum_partials(&partials, weight_gradient);
    memory::give_back(partials);
}

vectorised! {
    /// The rows of one piece; `partial[column]` is its share of the gain's gradient.
    fn norm_rows_backward<'a>(
        x: &'a [f32],
        weight: &'a [f32],
        epsilon: f32,
        gradient: &'a [f32],
        x_gradient: &'a mut [f32],
        partial: &'a mut [f32],
    ) {
        let columns = weight.len();
        partial.fill(0.0);
        let rows = x.chunks_exact(columns).zip(gradient.chunks_exact(columns));
        for ((x, gradient), out) in rows.zip(x_gradient.chunks_exact_mut(columns)) {
            norm_row_backward(x, weight, epsilon, gradient, out, partial);
        }
    }
}

/// Turns the pairs `(i, i + half)` of a head in place by angles with these cosines and sines.
#[inline(always)]
fn turn(head: &mut [f32], cosine: &[f32], sine: &[f32], direction: f32) {
    let (first, second) = head.split_at_mut(cosine.len());
    for (((a, b), &cosine), &sine) in first.iter_mut().zip(second.iter_mut()).zip(cosine).zip(sine) {
        let sine = direction * sine;
        let (x, y) = (*a, *b);
        *a = x.mul_add(cosine, -(y * sine));
        *b = y.mul_add(cosine, x * sine);
    }
}

/// The cosines and sines of a token row.
#[inline(always)]
fn angles(rotary: &Rotary, row: usize, shape: HeadShape) -> (&[f32], &[f32]) {
    let half = shape.head_dim / 2;
    let start = (row % shape.positions) * half;
    (&rotary.cosine()[start..][..half], &rotary.sine()[start..][..half])
}

/// Norm and turn in one pass over memory, token by token.
pub(super) fn head_norm_rotary(
    x: &[f32],
    weight: Option<&[f32]>,
    rotary: &Rotary,
    shape: HeadShape,
    out: &mut [f32],
) {
    let width = (shape.heads * shape.head_dim).max(1);
    each(out, rows_per_piece(width) * width, |start, out| {
        turn_rows(&x[start..][..out.len()], weight, rotary, shape, start / width, out);
    });
}

vectorised! {
    /// Token rows from number `first` on.
    fn turn_rows<'a>(
        x: &'a [f32],
        weight: Option<&'a [f32]>,
        rotary: &'a Rotary,
        shape: HeadShape,
        first: usize,
        out: &'a mut [f32],
    ) {
        let width = shape.heads * shape.head_dim;
        for (row, (x, out)) in (first..).zip(x.chunks_exact(width).zip(out.chunks_exact_mut(width))) {
            let (cosine, sine) = angles(rotary, row, shape);
            for (x, out) in x.chunks_exact(shape.head_dim).zip(out.chunks_exact_mut(shape.head_dim)) {
                match weight {
                    Some(weight) => norm_row(x, weight, shape.epsilon, out),
                    None => out.copy_from_slice(x),
                }
                turn(out, cosine, sine, 1.0);
            }
        }
    }
}

/// Turns the gradient back by the opposite angle, then through the norm, in place of `gradient`.
pub(super) fn head_norm_rotary_backward(
    x: &[f32],
    weight: Option<&[f32]>,
    rotary: &Rotary,
    shape: HeadShape,
    gradient: &mut [f32],
    weight_gradient: Option<&mut [f32]>,
) {
    let width = (shape.heads * shape.head_dim).max(1);
    let length = rows_per_piece(width) * width;
    // One partial sum for each piece, with room for the head that is being turned back: [piece, 2, head_dim].
    let mut partials = memory::take(x.len().div_ceil(length) * 2 * shape.head_dim);
    each_pair((gradient, length), (&mut partials, 2 * shape.head_dim), |index, gradient, scratch| {
        let (partial, turned) = scratch.split_at_mut(shape.head_dim);
        let piece = Piece { x: &x[index * length..][..gradient.len()], first: index * (length / width) };
        turn_rows_backward(piece, weight, rotary, shape, gradient, partial, turned);
    });
    if let Some(out) = weight_gradient {
        out.fill(0.0);
        partials
            .chunks_exact(2 * shape.head_dim)
            .for_each(|piece| add_scaled(out, &piece[..shape.head_dim], 1.0));
    }
    memory::give_back(partials);
}

/// Token rows from number `first` on.
struct Piece<'a> {
    x: &'a [f32],
    first: usize,
}

vectorised! {
    /// The rows of one piece; `turned[head_dim]` is scratch space for the head that is being turned back.
    fn turn_rows_backward<'a>(
        piece: Piece<'a>,
        weight: Option<&'a [f32]>,
        rotary: &'a Rotary,
        shape: HeadShape,
        gradient: &'a mut [f32],
        partial: &'a mut [f32],
        turned: &'a mut [f32],
    ) {
        let (width, size) = (shape.heads * shape.head_dim, shape.head_dim);
        partial.fill(0.0);
        let rows = piece.x.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
        for (row, (x, gradient)) in (piece.first..).zip(rows) {
            let (cosine, sine) = angles(rotary, row, shape);
            for (x, gradient) in x.chunks_exact(size).zip(gradient.chunks_exact_mut(size)) {
                turn(gradient, cosine, sine, -1.0);
                if let Some(weight) = weight {
                    turned.copy_from_slice(gradient);
                    norm_row_backward(x, weight, shape.epsilon, turned, gradient, partial);
                }
            }
        }
    }
}

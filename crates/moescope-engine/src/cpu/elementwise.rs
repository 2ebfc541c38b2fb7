//! Kernels that treat each number on its own.

use super::chunks::{PIECE, each, each_pair};
use super::vector::{add_scaled as add_scaled_to, dot, exp, sigmoid as sigmoid_of, vectorised};

pub(super) fn add_scaled(a: &[f32], b: &[f32], factor: f32, out: &mut [f32]) {
    each(out, PIECE, |start, out| sum_piece(&a[start..][..out.len()], &b[start..][..out.len()], factor, out));
}

vectorised! {
    /// Fused: the product is not rounded before the sum.
    fn sum_piece<'a>(a: &'a [f32], b: &'a [f32], factor: f32, out: &'a mut [f32]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = factor.mul_add(b, a);
        }
    }
}

pub(super) fn accumulate(into: &mut [f32], from: &[f32]) {
    each(into, PIECE, |start, into| accumulate_piece(into, &from[start..][..into.len()]));
}

vectorised! {
    fn accumulate_piece<'a>(into: &'a mut [f32], from: &'a [f32]) {
        add_scaled_to(into, from, 1.0);
    }
}

pub(super) fn scale(x: &[f32], factor: f32, out: &mut [f32]) {
    each(out, PIECE, |start, out| scale_piece(&x[start..][..out.len()], factor, out));
}

vectorised! {
    fn scale_piece<'a>(x: &'a [f32], factor: f32, out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = factor * x;
        }
    }
}

pub(super) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    each(out, PIECE, |start, out| swiglu_piece(&gate[start..][..out.len()], &up[start..][..out.len()], out));
}

vectorised! {
    /// For very negative gates the exponential stops at its largest finite value, so the result is a small number,
    /// never NaN.
    fn swiglu_piece<'a>(gate: &'a [f32], up: &'a [f32], out: &'a mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * up / (1.0 + exp(-gate));
        }
    }
}

pub(super) fn swiglu_backward(gate: &[f32], up: &[f32], gradient: &mut [f32], gate_gradient: &mut [f32]) {
    each_pair((gradient, PIECE), (gate_gradient, PIECE), |index, gradient, gate_gradient| {
        let range = index * PIECE..index * PIECE + gradient.len();
        swiglu_backward_piece(&gate[range.clone()], &up[range], gradient, gate_gradient);
    });
}

vectorised! {
    /// `silu'(g) = s + g s (1 - s)` with `s = sigmoid(g)`.
    fn swiglu_backward_piece<'a>(
        gate: &'a [f32],
        up: &'a [f32],
        gradient: &'a mut [f32],
        gate_gradient: &'a mut [f32],
    ) {
        let outputs = gradient.iter_mut().zip(gate_gradient.iter_mut());
        for (((gradient, out), &gate), &up) in outputs.zip(gate).zip(up) {
            let share = sigmoid_of(gate);
            let slope = share * gate.mul_add(1.0 - share, 1.0);
            *out = *gradient * up * slope;
            *gradient *= gate * share;
        }
    }
}

pub(super) fn sigmoid(x: &[f32], out: &mut [f32]) {
    each(out, PIECE, |start, out| sigmoid_piece(&x[start..][..out.len()], out));
}

vectorised! {
    fn sigmoid_piece<'a>(x: &'a [f32], out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = sigmoid_of(x);
        }
    }
}

pub(super) fn sigmoid_backward(y: &[f32], gradient: &mut [f32]) {
    each(gradient, PIECE, |start, gradient| sigmoid_backward_piece(&y[start..][..gradient.len()], gradient));
}

vectorised! {
    /// The slope is `y (1 - y)`, so the argument need not be kept.
    fn sigmoid_backward_piece<'a>(y: &'a [f32], gradient: &'a mut [f32]) {
        for (gradient, &y) in gradient.iter_mut().zip(y) {
            *gradient *= y * (1.0 - y);
        }
    }
}

/// Pieces of fixed length, summed in order in `f64`.
pub(super) fn sum_product(x: &[f32], with: &[f32]) -> f32 {
    let pieces = x.chunks(PIECE).zip(with.chunks(PIECE));
    pieces.map(|(x, with)| f64::from(dot_piece(x, with))).sum::<f64>() as f32
}

vectorised! {
    /// The sum of one piece in fixed lanes of `f32`.
    fn dot_piece<'a>(x: &'a [f32], with: &'a [f32]) -> f32 {
        dot(x, with)
    }
}

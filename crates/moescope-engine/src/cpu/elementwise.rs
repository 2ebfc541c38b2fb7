//! Kernels that treat each number on its own.

use super::chunks::{PIECE, each, each_pair};
use super::vector::{add_scaled as add_scaled_to, dot, exp, sigmoid as sigmoid_of, simd};

pub(super) fn add_scaled(a: &[f32], b: &[f32], factor: f32, out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        let (a, b) = (&a[start..][..out.len()], &b[start..][..out.len()]);
        simd(|| {
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = factor.mul_add(b, a);
            }
        });
    });
}

pub(super) fn accumulate(into: &mut [f32], from: &[f32]) {
    each(into, PIECE, |start, into| simd(|| add_scaled_to(into, &from[start..][..into.len()], 1.0)));
}

pub(super) fn scale(x: &[f32], factor: f32, out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        let x = &x[start..][..out.len()];
        simd(|| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = factor * x;
            }
        });
    });
}

pub(super) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        let (gate, up) = (&gate[start..][..out.len()], &up[start..][..out.len()]);
        simd(|| {
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * up / (1.0 + exp(-gate));
            }
        });
    });
}

/// `silu'(g) = s + g s (1 - s)` with `s = sigmoid(g)`.
pub(super) fn swiglu_backward(gate: &[f32], up: &[f32], gradient: &mut [f32], gate_gradient: &mut [f32]) {
    each_pair((gradient, PIECE), (gate_gradient, PIECE), |index, gradient, gate_gradient| {
        let length = gradient.len();
        let (gate, up) = (&gate[index * PIECE..][..length], &up[index * PIECE..][..length]);
        simd(|| {
            for (((gradient, out), &gate), &up) in
                gradient.iter_mut().zip(gate_gradient.iter_mut()).zip(gate).zip(up)
            {
                let share = sigmoid_of(gate);
                let slope = share * gate.mul_add(1.0 - share, 1.0);
                *out = *gradient * up * slope;
                *gradient *= gate * share;
            }
        });
    });
}

pub(super) fn sigmoid(x: &[f32], out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        let x = &x[start..][..out.len()];
        simd(|| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = sigmoid_of(x);
            }
        });
    });
}

pub(super) fn sigmoid_backward(y: &[f32], gradient: &mut [f32]) {
    each(gradient, PIECE, |start, gradient| {
        let y = &y[start..][..gradient.len()];
        simd(|| {
            for (gradient, &y) in gradient.iter_mut().zip(y) {
                *gradient *= y * (1.0 - y);
            }
        });
    });
}

/// Pieces of fixed length, summed in order in `f64`.
pub(super) fn sum_product(x: &[f32], with: &[f32]) -> f32 {
    let pieces = x.chunks(PIECE).zip(with.chunks(PIECE));
    let sum: f64 = pieces.map(|(x, with)| f64::from(simd(|| dot(x, with)))).sum();
    sum as f32
}

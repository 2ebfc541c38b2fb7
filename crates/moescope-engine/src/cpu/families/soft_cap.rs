//! Numbers kept within a bound.

use crate::cpu::chunks::{PIECE, each};

pub(crate) fn forward(x: &[f32], cap: f32, out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        out.iter_mut().zip(&x[start..]).for_each(|(out, x)| *out = cap * libm::tanhf(x / cap));
    });
}

/// The slope is `1 - (y / cap)²`, so the argument need not be kept.
pub(crate) fn backward(y: &[f32], cap: f32, gradient: &mut [f32]) {
    each(gradient, PIECE, |start, gradient| {
        for (gradient, &y) in gradient.iter_mut().zip(&y[start..]) {
            *gradient *= 1.0 - (y / cap) * (y / cap);
        }
    });
}

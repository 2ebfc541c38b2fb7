//! Numbers cut at a limit on both sides.

use crate::cpu::chunks::{PIECE, each};

pub(crate) fn forward(x: &[f32], limit: f32, out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        // Not-a-number stays what it is.
        out.iter_mut().zip(&x[start..]).for_each(|(out, x)| *out = x.clamp(-limit, limit));
    });
}

/// What was cut gets no gradient; what lies exactly at the limit does.
pub(crate) fn backward(x: &[f32], limit: f32, gradient: &mut [f32]) {
    each(gradient, PIECE, |start, gradient| {
        for (gradient, x) in gradient.iter_mut().zip(&x[start..]) {
            *gradient = if x.abs() > limit { 0.0 } else { *gradient };
        }
    });
}

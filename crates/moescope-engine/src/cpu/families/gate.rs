//! Gated activations.

use super::activation::{slope, steep_slope, value};
use crate::Gate;
use crate::cpu::chunks::{PIECE, each, each_pair};
use crate::cpu::vector::exp;

/// Cut at `limit` from above; not-a-number stays what it is.
#[inline(always)]
fn cut(x: f32, limit: f32) -> f32 {
    if x > limit { limit } else { x }
}

/// Cut at `limit` on both sides.
#[inline(always)]
fn cut_both(x: f32, limit: f32) -> f32 {
    -cut(-cut(x, limit), limit)
}

pub(crate) fn forward(gate: &[f32], up: &[f32], kind: Gate, out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        for ((out, &gate), &up) in out.iter_mut().zip(&gate[start..]).zip(&up[start..]) {
            *out = match kind {
                Gate::Plain(activation) => value(gate, activation) * up,
                Gate::Clamped { alpha, limit } => {
                    let gate = cut(gate, limit);
                    gate / (1.0 + exp(-alpha * gate)) * (cut_both(up, limit) + 1.0)
                }
            };
        }
    });
}

/// What was cut gets no gradient; what lies exactly at the limit does, as in the reference implementation.
pub(crate) fn backward(
    gate: &[f32],
    up: &[f32],
    kind: Gate,
    gradient: &mut [f32],
    gate_gradient: &mut [f32],
) {
    each_pair((gradient, PIECE), (gate_gradient, PIECE), |index, gradient, gate_gradient| {
        let start = index * PIECE;
        let inputs = gate[start..].iter().zip(&up[start..]);
        for ((gradient, out), (&gate, &up)) in gradient.iter_mut().zip(gate_gradient).zip(inputs) {
            let (gate_slope, up_slope) = match kind {
                Gate::Plain(activation) => (slope(gate, activation) * up, value(gate, activation)),
                Gate::Clamped { alpha, limit } => clamped_slopes(gate, up, alpha, limit),
            };
            *out = *gradient * gate_slope;
            *gradient *= up_slope;
        }
    });
}

/// Derivatives for the gate and for the branch beside it.
#[inline(always)]
fn clamped_slopes(gate: f32, up: f32, alpha: f32, limit: f32) -> (f32, f32) {
    let open = cut(gate, limit);
    let (passes, up_passes) = (f32::from(gate <= limit), f32::from(up.abs() <= limit));
    let shift = cut_both(up, limit) + 1.0;
    (passes * steep_slope(open, alpha) * shift, up_passes * open / (1.0 + exp(-alpha * open)))
}

//! Activations and their slopes.

use std::f32::consts::FRAC_2_SQRT_PI;

use crate::Activation;
use crate::cpu::chunks::{PIECE, each};
use crate::cpu::vector::{exp, sigmoid};

/// `sqrt(2 / π)` and the weight of the cube in the hyperbolic form of the Gaussian activation.
const ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2 * FRAC_2_SQRT_PI;
const CUBE: f32 = 0.044_715;
/// Steepness of the sigmoid that stands in for the normal distribution.
const QUICK: f32 = 1.702;

/// The function itself.
#[inline(always)]
pub(super) fn value(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + exp(-x)),
        Activation::Gelu => x * normal(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + libm::tanhf(ROOT * (x + CUBE * x * x * x))),
        Activation::QuickGelu => x / (1.0 + exp(-QUICK * x)),
        // Written so that not-a-number stays what it is.
        Activation::Relu if x <= 0.0 => 0.0,
        Activation::Relu => x,
    }
}

/// Its derivative; that of the rectifier is zero at zero.
#[inline(always)]
pub(super) fn slope(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Silu => steep_slope(x, 1.0),
        Activation::Gelu => {
            let density = std::f32::consts::FRAC_1_SQRT_2 * 0.5 * FRAC_2_SQRT_PI * exp(-0.5 * x * x);
            x.mul_add(density, normal(x))
        }
        Activation::GeluTanh => {
            let bend = libm::tanhf(ROOT * (x + CUBE * x * x * x));
            let inner = ROOT * (1.0 + 3.0 * CUBE * x * x);
            0.5 * (1.0 + bend) + 0.5 * x * (1.0 - bend * bend) * inner
        }
        Activation::QuickGelu => steep_slope(x, QUICK),
        Activation::Relu => f32::from(x > 0.0),
    }
}

/// Derivative of `x / (1 + exp(-a x))`.
#[inline(always)]
pub(super) fn steep_slope(x: f32, steepness: f32) -> f32 {
    let share = sigmoid(steepness * x);
    share * (steepness * x).mul_add(1.0 - share, 1.0)
}

/// Distribution function of the normal distribution.
#[inline(always)]
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

pub(crate) fn forward(x: &[f32], activation: Activation, out: &mut [f32]) {
    each(out, PIECE, |start, out| {
        for (out, &x) in out.iter_mut().zip(&x[start..]) {
            *out = value(x, activation);
        }
    });
}

pub(crate) fn backward(x: &[f32], activation: Activation, gradient: &mut [f32]) {
    each(gradient, PIECE, |start, gradient| {
        for (gradient, &x) in gradient.iter_mut().zip(&x[start..]) {
            *gradient *= slope(x, activation);
        }
    });
}

//! Activations of single numbers and of gated pairs.

/// A function of one number between two matrices of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x Φ(x)` with the distribution function of the normal distribution. Source: Hendrycks and Gimpel 2016.
    Gelu,
    /// The same with `Φ` replaced by an expression in the hyperbolic tangent, as GPT-2 has it.
    GeluTanh,
    /// `x / (1 + exp(-1.702 x))`, a coarser stand-in for the same.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

/// How a gate opens for the branch beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    /// `activation(gate) * up`.
    Plain(Activation),
    /// `g / (1 + exp(-alpha g)) * (u + 1)`, where `g` is the gate cut at `limit` from above and `u` the branch cut at `limit` on
    /// both sides, as in gpt-oss.
    Clamped {
        /// Steepness of the gate.
        alpha: f32,
        /// Where both are cut.
        limit: f32,
    },
}

//! Kernels that only some families of models need.

use crate::cpu::families::{
    activation, attention_scores, bias, clamp, gate, join_heads, layer_norm, rotary_part, row_factors,
    sink_softmax, slot_rows, soft_cap, sparse_mixer,
};
use crate::{Activation, AttentionRule, Gate, Rotary, RotaryPart, RoutePlan};

/// Kernels beyond the plain block: other norms, biases, activations, partial turns, attention with windows and sinks.
///
/// As in [`Device`](crate::Device), slices are contiguous, their lengths have been checked, and every entry of an output is
/// written. Each kernel is given here as the CPU computes it, so that a device without one of its own still runs every model.
#[allow(clippy::too_many_arguments)]
pub trait FamilyKernels {
    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias` for each row as wide as `weight`.
    fn layer_norm(&self, x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32]) {
        layer_norm::forward(x, weight, bias, epsilon, out);
    }

    /// Gradients of [`layer_norm`](Self::layer_norm).
    fn layer_norm_backward(
        &self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        gradient: &[f32],
        x_gradient: &mut [f32],
        weight_gradient: &mut [f32],
        bias_gradient: &mut [f32],
    ) {
        let outputs = [x_gradient, weight_gradient, bias_gradient];
        layer_norm::backward(x, weight, epsilon, gradient, outputs);
    }

    /// `x + bias` for each row as wide as `bias`.
    fn add_bias(&self, x: &[f32], bias: &[f32], out: &mut [f32]) {
        bias::add(x, bias, out);
    }

    /// Sum of all rows of `gradient`, each as wide as `out`.
    fn sum_rows(&self, gradient: &[f32], out: &mut [f32]) {
        bias::sum_rows(gradient, out);
    }

    /// Each slot row plus the bias of its expert, `bias[expert, column]`.
    fn add_expert_bias(&self, rows: &[f32], bias: &[f32], plan: &RoutePlan, out: &mut [f32]) {
        bias::add_by_expert(rows, bias, plan, out);
    }

    /// For each expert the sum of its slot rows, `[expert, column]`; zero for an expert without tokens.
    fn sum_expert_rows(&self, gradient: &[f32], plan: &RoutePlan, out: &mut [f32]) {
        bias::sum_by_expert(gradient, plan, out);
    }

    /// Rows of one width in the order of their names.
    fn reorder_rows(&self, rows: &[f32], names: &[u32], out: &mut [f32]) {
        slot_rows::permute(rows, names, out);
    }

    /// Each row times its own factor; `factors[row]`.
    fn scale_rows(&self, x: &[f32], factors: &[f32], out: &mut [f32]) {
        row_factors::scale(x, factors, out);
    }

    /// `out[row] = Σ_column a[row, column] b[row, column]`.
    fn row_products(&self, a: &[f32], b: &[f32], out: &mut [f32]) {
        row_factors::products(a, b, out);
    }

    /// One function of every number.
    fn activate(&self, x: &[f32], activation: Activation, out: &mut [f32]) {
        activation::forward(x, activation, out);
    }

    /// Gradient of [`activate`](Self::activate), in place of `gradient`.
    fn activate_backward(&self, x: &[f32], activation: Activation, gradient: &mut [f32]) {
        activation::backward(x, activation, gradient);
    }

    /// `cap * tanh(x / cap)`.
    fn soft_cap(&self, x: &[f32], cap: f32, out: &mut [f32]) {
        soft_cap::forward(x, cap, out);
    }

    /// Gradient of [`soft_cap`](Self::soft_cap) from its result `y`, in place of `gradient`.
    fn soft_cap_backward(&self, y: &[f32], cap: f32, gradient: &mut [f32]) {
        soft_cap::backward(y, cap, gradient);
    }

    /// Every number, but none beyond `limit` on either side.
    fn clamp(&self, x: &[f32], limit: f32, out: &mut [f32]) {
        clamp::forward(x, limit, out);
    }

    /// Gradient of [`clamp`](Self::clamp), in place of `gradient`.
    fn clamp_backward(&self, x: &[f32], limit: f32, gradient: &mut [f32]) {
        clamp::backward(x, limit, gradient);
    }

    /// A gated activation of every pair of numbers.
    fn gated(&self, gate: &[f32], up: &[f32], kind: Gate, out: &mut [f32]) {
        gate::forward(gate, up, kind, out);
    }

    /// Gradients of [`gated`](Self::gated); that of `up` replaces `gradient` in place.
    fn gated_backward(
        &self,
        gate: &[f32],
        up: &[f32],
        kind: Gate,
        gradient: &mut [f32],
        gate_gradient: &mut [f32],
    ) {
        gate::backward(gate, up, kind, gradient, gate_gradient);
    }

    /// Turns part of each head by its position.
    fn rotary_part(&self, x: &[f32], rotary: &Rotary, part: RotaryPart, out: &mut [f32]) {
        rotary_part::forward(x, rotary, part, out);
    }

    /// Gradient of [`rotary_part`](Self::rotary_part), in place of `gradient`.
    fn rotary_part_backward(&self, rotary: &Rotary, part: RotaryPart, gradient: &mut [f32]) {
        rotary_part::backward(rotary, part, gradient);
    }

    /// Heads put together from two halves, the second of which all heads of a token share: `own[token, head * width]`,
    /// `shared[token, width]`.
    fn join_heads(&self, own: &[f32], shared: &[f32], heads: usize, tokens: usize, out: &mut [f32]) {
        join_heads::join(own, shared, heads, tokens, out);
    }

    /// Gradients of [`join_heads`](Self::join_heads): the shared half's sums over heads.
    fn join_heads_backward(
        &self,
        gradient: &[f32],
        heads: usize,
        tokens: usize,
        own_gradient: &mut [f32],
        shared_gradient: &mut [f32],
    ) {
        join_heads::part(gradient, heads, tokens, own_gradient, shared_gradient);
    }

    /// Scaled and capped scores of the keys that each query sees, `[batch, head, query, key]`; minus infinity elsewhere.
    fn attention_scores(&self, q: &[f32], k: &[f32], rule: AttentionRule, out: &mut [f32]) {
        attention_scores::forward(q, k, rule, out);
    }

    /// Gradients of [`attention_scores`](Self::attention_scores); overwrites `gradient` on the way.
    fn attention_scores_backward(
        &self,
        q: &[f32],
        k: &[f32],
        gradient: &mut [f32],
        rule: AttentionRule,
        q_gradient: &mut [f32],
        k_gradient: &mut [f32],
    ) {
        attention_scores::backward((q, k), gradient, rule, q_gradient, k_gradient);
    }

    /// Softmax of scores over keys, with a sink for each head, if there are sinks, that takes its share and gives nothing.
    fn sink_softmax(&self, scores: &[f32], sinks: Option<&[f32]>, rule: AttentionRule, out: &mut [f32]) {
        sink_softmax::forward(scores, sinks, rule, out);
    }

    /// Gradients of [`sink_softmax`](Self::sink_softmax) from its result: that of the scores in place of `gradient`, and that of
    /// the sinks where wanted.
    fn sink_softmax_backward(
        &self,
        pattern: &[f32],
        rule: AttentionRule,
        gradient: &mut [f32],
        sinks_gradient: Option<&mut [f32]>,
    ) {
        sink_softmax::backward(pattern, rule, gradient, sinks_gradient);
    }

    /// Weights of two experts for each token, chosen one after the other among the logits near the largest; see
    /// [`Tape::sparse_mixer`](crate::Tape::sparse_mixer).
    fn sparse_mixer(&self, logits: &[f32], experts: usize, choices: &[u32], tolerance: f32, out: &mut [f32]) {
        sparse_mixer::forward(logits, experts, choices, tolerance, out);
    }

    /// Gradient of [`sparse_mixer`](Self::sparse_mixer) for the logits.
    fn sparse_mixer_backward(
        &self,
        logits: &[f32],
        experts: usize,
        choices: &[u32],
        tolerance: f32,
        gradient: &[f32],
        out: &mut [f32],
    ) {
        sparse_mixer::backward(logits, experts, choices, tolerance, gradient, out);
    }
}

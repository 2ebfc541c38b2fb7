//! What a device must be able to compute.

use crate::optimizer::AdamW;
use crate::{DictionaryKernels, FamilyKernels, Rotary, RoutePlan};

/// Axes of a dense product: `x[row, input] · weight[output, input]ᵀ → [row, output]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of the activations: tokens.
    pub rows: usize,
    /// Columns of the weight.
    pub inputs: usize,
    /// Rows of the weight.
    pub outputs: usize,
}

/// Axes of causal attention with grouped queries.
///
/// Token rows are `batch * positions` in order. Query head `h` reads key-value head `h / (heads / key_value_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionLayout {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each sequence.
    pub positions: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub key_value_heads: usize,
    /// Entries of a head.
    pub head_dim: usize,
}

impl AttentionLayout {
    /// Query heads that share one key-value head.
    pub fn group(&self) -> usize {
        self.heads / self.key_value_heads
    }

    /// Token rows: `batch * positions`.
    pub fn tokens(&self) -> usize {
        self.batch * self.positions
    }

    /// What scores are multiplied with: `1 / sqrt(head_dim)`.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// Axes of attention as one operation: queries and keys as the layout says, values of a size of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Of queries and keys.
    pub layout: AttentionLayout,
    /// Entries of a value head.
    pub value_dim: usize,
}

impl AttentionShape {
    /// The layout of values and of what is mixed from them.
    pub fn values(&self) -> AttentionLayout {
        AttentionLayout { head_dim: self.value_dim, ..self.layout }
    }
}

/// Axes of heads that are normalised and turned: `x[token, head * head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadShape {
    /// Heads in a token row.
    pub heads: usize,
    /// Entries of a head.
    pub head_dim: usize,
    /// Tokens of a sequence; the position of a row is `row % positions`.
    pub positions: usize,
    /// Added to the mean square before the root.
    pub epsilon: f32,
}

/// Every kernel that the operations of the tape are made of, forward and backward.
///
/// The operations check shapes and keep the books; a device only computes, on contiguous row-major slices whose lengths have
/// been checked. A kernel writes every entry of its outputs, and adds to what is there only when `accumulate` is true. An
/// output that is `None` is not wanted. Results may depend on the device, never on the number of threads.
///
/// [`Cpu`](crate::Cpu) is the reference; another device implements this trait and needs no change to a model.
#[allow(clippy::too_many_arguments)]
pub trait Device: FamilyKernels + DictionaryKernels + Send + Sync {
    /// Rows of `table[vocabulary, width]` named by `ids`.
    fn embedding(&self, table: &[f32], ids: &[u32], out: &mut [f32]);
    /// Adds each row of `gradient[token, width]` to the row of `table_gradient` that it came from.
    ///
    /// Always adds; the caller clears the table's gradient first where it is new.
    fn embedding_backward(&self, gradient: &[f32], ids: &[u32], table_gradient: &mut [f32]);

    /// `x · weightᵀ`.
    fn linear(&self, x: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32]);
    /// Gradient of [`linear`](Self::linear) for `x`.
    fn linear_input(
        &self,
        gradient: &[f32],
        weight: &[f32],
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );
    /// Gradient of [`linear`](Self::linear) for `weight`.
    ///
    /// Sums over all rows.
    fn linear_weight(
        &self,
        gradient: &[f32],
        x: &[f32],
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );

    /// `x / sqrt(mean(x²) + epsilon) * weight` for each row as wide as `weight`.
    fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]);
    /// Gradients of [`rms_norm`](Self::rms_norm).
    fn rms_norm_backward(
        &self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        gradient: &[f32],
        x_gradient: &mut [f32],
        weight_gradient: &mut [f32],
    );
    /// Normalises each head when a weight is given, then turns it by its position.
    fn head_norm_rotary(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        rotary: &Rotary,
        shape: HeadShape,
        out: &mut [f32],
    );
    /// Gradients of [`head_norm_rotary`](Self::head_norm_rotary); turns `gradient` back in place on the way.
    fn head_norm_rotary_backward(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        rotary: &Rotary,
        shape: HeadShape,
        gradient: &mut [f32],
        weight_gradient: Option<&mut [f32]>,
    );

    /// `a + factor * b`.
    fn add_scaled(&self, a: &[f32], b: &[f32], factor: f32, out: &mut [f32]);
    /// `into += from`.
    fn accumulate(&self, into: &mut [f32], from: &[f32]);
    /// `factor * x`.
    fn scale(&self, x: &[f32], factor: f32, out: &mut [f32]);
    /// `silu(gate) * up`.
    fn swiglu(&self, gate: &[f32], up: &[f32], out: &mut [f32]);
    /// Gradients of [`swiglu`](Self::swiglu); that of `up` replaces `gradient` in place.
    fn swiglu_backward(&self, gate: &[f32], up: &[f32], gradient: &mut [f32], gate_gradient: &mut [f32]);
    /// `1 / (1 + exp(-x))`.
    fn sigmoid(&self, x: &[f32], out: &mut [f32]);
    /// Gradient of [`sigmoid`](Self::sigmoid) from its result `y`, in place of `gradient`.
    fn sigmoid_backward(&self, y: &[f32], gradient: &mut [f32]);

    /// `exp(x)` over its sum, for each row of `columns`.
    fn softmax(&self, x: &[f32], columns: usize, out: &mut [f32]);
    /// Gradient of [`softmax`](Self::softmax) from its result `y`, in place of `gradient`.
    fn softmax_backward(&self, y: &[f32], columns: usize, gradient: &mut [f32]);
    /// Each row over its sum.
    ///
    /// Sums are not guarded: scores are positive, and a row that sums to zero should show.
    fn renormalise(&self, x: &[f32], columns: usize, out: &mut [f32]);
    /// Gradient of [`renormalise`](Self::renormalise) from its argument, in place of `gradient`.
    fn renormalise_backward(&self, x: &[f32], columns: usize, gradient: &mut [f32]);
    /// Keeps the `k` largest magnitudes of each row, zeros the others; writes the kept columns `[row, k]`, ascending.
    ///
    /// Of equal magnitudes the lower column is kept.
    fn top_k_activation(&self, x: &[f32], columns: usize, k: usize, out: &mut [f32], kept: &mut [u32]);
    /// `out[row, i] = x[row, indices[row, i]]`.
    fn gather_columns(&self, x: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]);
    /// `out[row, indices[row, i]] += gradient[row, i]` from zero: the transpose of [`gather_columns`](Self::gather_columns).
    fn scatter_columns(
        &self,
        gradient: &[f32],
        columns: usize,
        indices: &[u32],
        per_row: usize,
        out: &mut [f32],
    );

    /// Causal `softmax(q · kᵀ / sqrt(head_dim)) · v` for each head, `[token, head * value_dim]`, without storing the pattern.
    fn attention(&self, q: &[f32], k: &[f32], v: &[f32], shape: AttentionShape, out: &mut [f32]);
    /// Gradients of [`attention`](Self::attention), all three.
    fn attention_backward(
        &self,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        gradient: &[f32],
        shape: AttentionShape,
        q_gradient: &mut [f32],
        k_gradient: &mut [f32],
        v_gradient: &mut [f32],
    );

    /// Causal `softmax(q · kᵀ / sqrt(head_dim))`, `[batch, head, query, key]`, zero where the key is later than the query.
    fn attention_pattern(&self, q: &[f32], k: &[f32], layout: AttentionLayout, out: &mut [f32]);
    /// Gradients of [`attention_pattern`](Self::attention_pattern); overwrites `gradient` on the way.
    fn attention_pattern_backward(
        &self,
        q: &[f32],
        k: &[f32],
        pattern: &[f32],
        gradient: &mut [f32],
        layout: AttentionLayout,
        q_gradient: &mut [f32],
        k_gradient: &mut [f32],
    );
    /// `pattern · v` for each head; with `causal`, entries of the pattern for later keys are not read.
    fn attention_mix(
        &self,
        pattern: &[f32],
        v: &[f32],
        layout: AttentionLayout,
        causal: bool,
        out: &mut [f32],
    );
    /// Gradients of [`attention_mix`](Self::attention_mix), as far as `reach` says.
    fn attention_mix_backward(
        &self,
        pattern: &[f32],
        v: &[f32],
        gradient: &[f32],
        layout: AttentionLayout,
        reach: MixReach,
        pattern_gradient: Option<&mut [f32]>,
        v_gradient: Option<&mut [f32]>,
    );

    /// The token row of each slot row times the matrix of its expert, `weight[expert, output, input]`: `[slot_row, output]`.
    ///
    /// As if the token rows stood in the order of the slot rows, without that copy.
    fn expert_input(&self, x: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]);
    /// Gradient of [`expert_input`](Self::expert_input) for the tokens, summed by ascending expert.
    fn expert_input_tokens(
        &self,
        gradient: &[f32],
        weight: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );
    /// Gradient of [`expert_input`](Self::expert_input) for the weights; zero for an expert without tokens.
    fn expert_input_weight(
        &self,
        gradient: &[f32],
        x: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );
    /// Every slot row times the matrix of its expert and its slot's entry of `factors[token, slot]`, summed for each token by
    /// ascending expert: `[token, output]`.
    fn expert_output(
        &self,
        rows: &[f32],
        weight: &[f32],
        factors: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
    );
    /// Gradients of [`expert_output`](Self::expert_output) for the rows and, where wanted, for the factors.
    fn expert_output_backward(
        &self,
        gradient: &[f32],
        rows: &[f32],
        weight: &[f32],
        factors: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        rows_gradient: &mut [f32],
        factors_gradient: Option<&mut [f32]>,
    );
    /// Gradient of [`expert_output`](Self::expert_output) for the weights; zero for an expert without tokens.
    fn expert_output_weight(
        &self,
        gradient: &[f32],
        rows: &[f32],
        factors: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );
    /// Every slot row times the matrix of its expert, `weight[expert, output, input]`; `shape.rows` are slot rows.
    fn expert_linear(
        &self,
        rows: &[f32],
        weight: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
    );
    /// Gradient of [`expert_linear`](Self::expert_linear) for the rows.
    fn expert_linear_input(
        &self,
        gradient: &[f32],
        weight: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );
    /// Gradient of [`expert_linear`](Self::expert_linear) for the weights; zero for an expert without tokens.
    fn expert_linear_weight(
        &self,
        gradient: &[f32],
        rows: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    );
    /// `out[token] = Σ_slot weights[token, slot] * rows[slot row]`, by ascending expert.
    fn expert_combine(&self, rows: &[f32], weights: &[f32], plan: &RoutePlan, out: &mut [f32]);
    /// Gradients of [`expert_combine`](Self::expert_combine).
    fn expert_combine_backward(
        &self,
        rows: &[f32],
        weights: &[f32],
        plan: &RoutePlan,
        gradient: &[f32],
        rows_gradient: Option<&mut [f32]>,
        weights_gradient: Option<&mut [f32]>,
    );

    /// `n Σ_i f_i P_i`; `P` is the mean over rows of `scores` over their row sums.
    ///
    /// `f_i = counts[i] / slot rows` and `n` the number of experts.
    fn balance_loss(&self, scores: &[f32], plan: &RoutePlan) -> f32;
    /// `factor` times the gradient of [`balance_loss`](Self::balance_loss), through `P` alone.
    fn balance_loss_backward(&self, scores: &[f32], plan: &RoutePlan, factor: f32, out: &mut [f32]);
    /// `log Σ exp` of each row.
    ///
    /// Must not overflow for large logits, which is what the z-loss is there to notice.
    fn log_sum_exp(&self, x: &[f32], columns: usize, out: &mut [f32]);
    /// `out[row, j] = factors[row] * exp(x[row, j] - log_sums[row])`, then `- factors[row]` at the row's target if it has one.
    fn scaled_softmax(
        &self,
        x: &[f32],
        log_sums: &[f32],
        factors: &[f32],
        targets: Option<&[u32]>,
        out: &mut [f32],
    );
    /// `Σ x * with`.
    ///
    /// In an order that depends on the length alone.
    fn sum_product(&self, x: &[f32], with: &[f32]) -> f32;

    /// One step of AdamW; see [`adamw_step`](crate::optimizer::adamw_step).
    fn adamw(
        &self,
        step: &AdamWStep,
        weight: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    );
}

/// How far the gradient of an attention mix reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixReach {
    /// The pattern is zero for keys later than the query, and those entries are not read.
    pub causal: bool,
    /// The pattern's gradient is wanted for later keys too, because someone looks at it.
    pub full: bool,
}

/// The numbers of one AdamW step, with the bias corrections worked out.
///
/// Worked out once for a step, in `f64`; a device only sweeps over the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The settings.
    pub settings: AdamW,
    /// Multiplies every gradient: clipping.
    pub gradient_scale: f32,
    /// `learning_rate / (1 - beta1^step)`.
    pub rate: f32,
    /// `1 / sqrt(1 - beta2^step)`.
    pub root_correction: f32,
    /// Multiplies every weight first: `1 - learning_rate * weight_decay`.
    pub shrink: f32,
}

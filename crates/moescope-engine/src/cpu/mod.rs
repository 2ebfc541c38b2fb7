//! The reference device: this machine's processors.
//!
//! Each file holds kernels of one kind, as plain functions on slices; this one only hands over to them. `chunks` cuts
//! the work, `vector` and `matrix` do the arithmetic, the others say what is computed.

mod adamw;
mod attention;
mod attention_at_once;
mod chunks;
pub(crate) mod dictionary;
pub(crate) mod distribution;
mod elementwise;
mod expert_products;
mod experts;
pub(crate) mod families;
mod linear;
mod matrix;
mod normalise;
mod product;
mod rows;
mod selection;
pub(crate) mod sparse_rows;
mod vector;

use self::expert_products::Way;
pub(crate) use self::product::gemm_product;
use crate::{
    AdamWStep, AttentionLayout, AttentionShape, Device, DictionaryKernels, FamilyKernels, HeadShape,
    LinearShape, MixReach, Rotary, RoutePlan,
};

/// The processors of this machine, through the rayon pool that the caller runs in.
///
/// Work is cut into pieces by shape alone and every sum has one owner, so results have the same bits on any number of
/// threads. They may differ between kinds of processor, whose dense products sum in different orders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl FamilyKernels for Cpu {}

impl DictionaryKernels for Cpu {}

impl Device for Cpu {
    fn embedding(&self, table: &[f32], ids: &[u32], out: &mut [f32]) {
        selection::embedding(table, ids, out);
    }

    fn embedding_backward(&self, gradient: &[f32], ids: &[u32], table_gradient: &mut [f32]) {
        selection::embedding_backward(gradient, ids, table_gradient);
    }

    fn linear(&self, x: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32]) {
        linear::linear(x, weight, shape, out);
    }

    fn linear_input(
        &self,
        gradient: &[f32],
        weight: &[f32],
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        linear::linear_input(gradient, weight, shape, out, accumulate);
    }

    fn linear_weight(
        &self,
        gradient: &[f32],
        x: &[f32],
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        linear::linear_weight(gradient, x, shape, out, accumulate);
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        normalise::rms_norm(x, weight, epsilon, out);
    }

    fn rms_norm_backward(
        &self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        gradient: &[f32],
        x_gradient: &mut [f32],
        weight_gradient: &mut [f32],
    ) {
        normalise::rms_norm_backward(x, weight, epsilon, gradient, x_gradient, weight_gradient);
    }

    fn head_norm_rotary(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        rotary: &Rotary,
        shape: HeadShape,
        out: &mut [f32],
    ) {
        normalise::head_norm_rotary(x, weight, rotary, shape, out);
    }

    fn head_norm_rotary_backward(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        rotary: &Rotary,
        shape: HeadShape,
        gradient: &mut [f32],
        weight_gradient: Option<&mut [f32]>,
    ) {
        normalise::head_norm_rotary_backward(x, weight, rotary, shape, gradient, weight_gradient);
    }

    fn add_scaled(&self, a: &[f32], b: &[f32], factor: f32, out: &mut [f32]) {
        elementwise::add_scaled(a, b, factor, out);
    }

    fn accumulate(&self, into: &mut [f32], from: &[f32]) {
        elementwise::accumulate(into, from);
    }

    fn scale(&self, x: &[f32], factor: f32, out: &mut [f32]) {
        elementwise::scale(x, factor, out);
    }

    fn swiglu(&self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        elementwise::swiglu(gate, up, out);
    }

    fn swiglu_backward(&self, gate: &[f32], up: &[f32], gradient: &mut [f32], gate_gradient: &mut [f32]) {
        elementwise::swiglu_backward(gate, up, gradient, gate_gradient);
    }

    fn sigmoid(&self, x: &[f32], out: &mut [f32]) {
        elementwise::sigmoid(x, out);
    }

    fn sigmoid_backward(&self, y: &[f32], gradient: &mut [f32]) {
        elementwise::sigmoid_backward(y, gradient);
    }

    fn softmax(&self, x: &[f32], columns: usize, out: &mut [f32]) {
        rows::softmax(x, columns, out);
    }

    fn softmax_backward(&self, y: &[f32], columns: usize, gradient: &mut [f32]) {
        rows::softmax_backward(y, columns, gradient);
    }

    fn renormalise(&self, x: &[f32], columns: usize, out: &mut [f32]) {
        rows::renormalise(x, columns, out);
    }

    fn renormalise_backward(&self, x: &[f32], columns: usize, gradient: &mut [f32]) {
        rows::renormalise_backward(x, columns, gradient);
    }

    fn top_k_activation(&self, x: &[f32], columns: usize, k: usize, out: &mut [f32], kept: &mut [u32]) {
        selection::top_k_activation(x, columns, k, out, kept);
    }

    fn gather_columns(&self, x: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]) {
        selection::gather_columns(x, columns, indices, per_row, out);
    }

    fn scatter_columns(
        &self,
        gradient: &[f32],
        columns: usize,
        indices: &[u32],
        per_row: usize,
        out: &mut [f32],
    ) {
        selection::scatter_columns(gradient, columns, indices, per_row, out);
    }

    fn attention(&self, q: &[f32], k: &[f32], v: &[f32], shape: AttentionShape, out: &mut [f32]) {
        attention_at_once::attention(q, k, v, shape, out);
    }

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
    ) {
        let gradients = (q_gradient, k_gradient, v_gradient);
        attention_at_once::attention_backward((q, k, v), gradient, shape, gradients);
    }

    fn attention_pattern(&self, q: &[f32], k: &[f32], layout: AttentionLayout, out: &mut [f32]) {
        attention::attention_pattern(q, k, layout, out);
    }

    fn attention_pattern_backward(
        &self,
        q: &[f32],
        k: &[f32],
        pattern: &[f32],
        gradient: &mut [f32],
        layout: AttentionLayout,
        q_gradient: &mut [f32],
        k_gradient: &mut [f32],
    ) {
        attention::attention_pattern_backward((q, k), pattern, gradient, layout, q_gradient, k_gradient);
    }

    fn attention_mix(
        &self,
        pattern: &[f32],
        v: &[f32],
        layout: AttentionLayout,
        causal: bool,
        out: &mut [f32],
    ) {
        attention::attention_mix(pattern, v, layout, causal, out);
    }

    fn attention_mix_backward(
        &self,
        pattern: &[f32],
        v: &[f32],
        gradient: &[f32],
        layout: AttentionLayout,
        reach: MixReach,
        pattern_gradient: Option<&mut [f32]>,
        v_gradient: Option<&mut [f32]>,
    ) {
        attention::attention_mix_backward(
            (pattern, v),
            gradient,
            layout,
            reach,
            pattern_gradient,
            v_gradient,
        );
    }

    fn expert_input(&self, x: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]) {
        expert_products::from_tokens(x, weight, plan, (shape, Way::Forward), out);
    }

    fn expert_input_tokens(
        &self,
        gradient: &[f32],
        weight: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        expert_products::to_tokens(gradient, weight, plan, (shape, Way::Back), None, (out, accumulate));
    }

    fn expert_input_weight(
        &self,
        gradient: &[f32],
        x: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        expert_products::from_tokens_weight(gradient, x, plan, shape, (out, accumulate));
    }

    fn expert_output(
        &self,
        rows: &[f32],
        weight: &[f32],
        factors: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
    ) {
        expert_products::to_tokens(rows, weight, plan, (shape, Way::Forward), Some(factors), (out, false));
    }

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
    ) {
        expert_products::from_tokens(gradient, weight, plan, (shape, Way::Back), rows_gradient);
        expert_products::share_out(rows_gradient, rows, factors, plan, factors_gradient);
    }

    fn expert_output_weight(
        &self,
        gradient: &[f32],
        rows: &[f32],
        factors: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        expert_products::to_tokens_weight(gradient, rows, factors, plan, shape, (out, accumulate));
    }

    fn expert_linear(
        &self,
        rows: &[f32],
        weight: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
    ) {
        experts::expert_linear(rows, weight, plan, shape, out);
    }

    fn expert_linear_input(
        &self,
        gradient: &[f32],
        weight: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        experts::expert_linear_input(gradient, weight, plan, shape, out, accumulate);
    }

    fn expert_linear_weight(
        &self,
        gradient: &[f32],
        rows: &[f32],
        plan: &RoutePlan,
        shape: LinearShape,
        out: &mut [f32],
        accumulate: bool,
    ) {
        experts::expert_linear_weight(gradient, rows, plan, shape, out, accumulate);
    }

    fn expert_combine(&self, rows: &[f32], weights: &[f32], plan: &RoutePlan, out: &mut [f32]) {
        experts::expert_combine(rows, weights, plan, out);
    }

    fn expert_combine_backward(
        &self,
        rows: &[f32],
        weights: &[f32],
        plan: &RoutePlan,
        gradient: &[f32],
        rows_gradient: Option<&mut [f32]>,
        weights_gradient: Option<&mut [f32]>,
    ) {
        experts::expert_combine_backward((rows, weights), plan, gradient, rows_gradient, weights_gradient);
    }

    fn balance_loss(&self, scores: &[f32], plan: &RoutePlan) -> f32 {
        experts::balance_loss(scores, plan)
    }

    fn balance_loss_backward(&self, scores: &[f32], plan: &RoutePlan, factor: f32, out: &mut [f32]) {
        experts::balance_loss_backward(scores, plan, factor, out);
    }

    fn log_sum_exp(&self, x: &[f32], columns: usize, out: &mut [f32]) {
        rows::log_sum_exp(x, columns, out);
    }

    fn scaled_softmax(
        &self,
        x: &[f32],
        log_sums: &[f32],
        factors: &[f32],
        targets: Option<&[u32]>,
        out: &mut [f32],
    ) {
        rows::scaled_softmax(x, log_sums, factors, targets, out);
    }

    fn sum_product(&self, x: &[f32], with: &[f32]) -> f32 {
        elementwise::sum_product(x, with)
    }

    fn adamw(
        &self,
        step: &AdamWStep,
        weight: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        adamw::adamw(step, weight, gradient, first, second);
    }
}

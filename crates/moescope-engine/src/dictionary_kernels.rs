//! Kernels that only sparse dictionaries need.

use crate::cpu::dictionary::{jump_relu, top_of_batch};

/// Kernels beyond those of models: activations that choose over a batch or jump at a learned threshold.
///
/// As in [`Device`](crate::Device), slices are contiguous, their lengths have been checked, and every entry of an output is
/// written. Each kernel is given here as the CPU computes it, so that a device without one of its own still trains dictionaries.
pub trait DictionaryKernels {
    /// Keeps the `count` entries of largest magnitude of all rows together, zeros never; of equals, those that come first.
    fn top_of_batch(&self, x: &[f32], count: usize, out: &mut [f32]) {
        top_of_batch::forward(x, count, out);
    }

    /// Gradient of [`top_of_batch`](Self::top_of_batch) from its result `y`, in place of `gradient`.
    fn top_of_batch_backward(&self, y: &[f32], gradient: &mut [f32]) {
        top_of_batch::backward(y, gradient);
    }

    /// `x` where it is above the threshold of its column, zero elsewhere.
    fn jump_relu(&self, x: &[f32], thresholds: &[f32], out: &mut [f32]) {
        jump_relu::forward(x, thresholds, out);
    }

    /// Gradients of [`jump_relu`](Self::jump_relu): that of `x` in place of `gradient`, and the estimate for the thresholds.
    fn jump_relu_backward(
        &self,
        x: &[f32],
        thresholds: &[f32],
        bandwidth: f32,
        gradient: &mut [f32],
        thresholds_gradient: &mut [f32],
    ) {
        jump_relu::backward(x, thresholds, bandwidth, gradient, thresholds_gradient);
    }

    /// How many entries lie above the threshold of their column.
    fn count_above(&self, x: &[f32], thresholds: &[f32]) -> u64 {
        jump_relu::count(x, thresholds)
    }

    /// `factor` times the estimated gradient of [`count_above`](Self::count_above) for the thresholds.
    fn count_above_backward(
        &self,
        x: &[f32],
        thresholds: &[f32],
        bandwidth: f32,
        factor: f32,
        out: &mut [f32],
    ) {
        jump_relu::count_backward(x, thresholds, bandwidth, factor, out);
    }
}

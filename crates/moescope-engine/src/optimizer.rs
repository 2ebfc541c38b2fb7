//! AdamW, one sweep over each tensor.

use crate::{AdamWStep, Device};

/// Settings of AdamW.
///
/// A tensor with a rate of its own gets a copy with another `learning_rate`; whether it decays is said at each step.
///
/// **Source:** Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2, with the decay multiplied by
/// the learning rate as PyTorch does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Step size, at this step of the schedule.
    pub learning_rate: f32,
    /// Memory of the first moment, in `0..1`.
    pub beta1: f32,
    /// Memory of the second moment, in `0..1`.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Each step shrinks a weight by this share of the learning rate.
    pub weight_decay: f32,
}

/// Moves `weight` one step against `gradient * gradient_scale`, and updates both moments, in place.
///
/// `step` counts from 1 and sets the bias corrections. `gradient_scale` is 1, or what clipping to a norm asks for. `decay`
/// says whether this tensor decays: gains and embeddings often do not.
///
/// # Panics
/// When the four slices differ in length or `step` is 0.
#[allow(clippy::too_many_arguments)]
pub fn adamw_step(
    device: &dyn Device,
    adamw: &AdamW,
    step: u64,
    weight: &mut [f32],
    gradient: &[f32],
    gradient_scale: f32,
    first: &mut [f32],
    second: &mut [f32],
    decay: bool,
) {
    let lengths = [gradient.len(), first.len(), second.len()];
    assert!(
        lengths.iter().all(|&length| length == weight.len()),
        "weight, gradient and moments are of one length"
    );
    assert!(step > 0, "steps count from 1");
    let bias = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
    let decayed = f64::from(adamw.learning_rate) * f64::from(adamw.weight_decay);
    let numbers = AdamWStep {
        settings: *adamw,
        gradient_scale,
        rate: (f64::from(adamw.learning_rate) / bias(adamw.beta1)) as f32,
        root_correction: bias(adamw.beta2).sqrt().recip() as f32,
        shrink: if decay { (1.0 - decayed) as f32 } else { 1.0 },
    };
    device.adamw(&numbers, weight, gradient, first, second);
}

/// Euclidean norm of all gradients together, summed in `f64` in an order that depends on their lengths alone.
///
/// Gradients are in loss units for each unit of weight, so the norm grows with the number of weights; not-a-number in
/// any entry makes it not-a-number.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f64 {
    gradients.map(square_sum).sum::<f64>().sqrt()
}

/// `Σ x²` in `f64`, over a fixed number of lanes: one chain of sums would wait for each addition.
fn square_sum(gradient: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0f64; LANES];
    let whole = gradient.chunks_exact(LANES);
    let rest = whole.remainder();
    for piece in whole {
        for (sum, &x) in sums.iter_mut().zip(piece) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use proptest::prelude::*;

    const SETTINGS: AdamW =
        AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.5 };

    #[test]
    fn the_first_step_moves_by_the_learning_rate() {
        let (mut weight, mut first, mut second) = ([1.0, 1.0], [0.0; 2], [0.0; 2]);
        adamw_step(&Cpu, &SETTINGS, 1, &mut weight, &[3.0, -0.2], 1.0, &mut first, &mut second, false);
        assert!((weight[0] - 0.9).abs() < 1e-6 && (weight[1] - 1.1).abs() < 1e-6, "{weight:?}");
    }

    #[test]
    fn decay_shrinks_a_weight_without_gradient() {
        let (mut weight, mut first, mut second) = ([2.0], [0.0], [0.0]);
        adamw_step(&Cpu, &SETTINGS, 1, &mut weight, &[0.0], 1.0, &mut first, &mut second, true);
        assert!((weight[0] - 2.0 * (1.0 - 0.05)).abs() < 1e-6);
    }

    #[test]
    fn a_norm_goes_over_all_tensors() {
        assert_eq!(global_norm([[3.0f32].as_slice(), &[4.0], &[]].into_iter()), 5.0);
    }

    /// The textbook's loop in `f64`.
    fn reference(steps: u64, start: f64, gradient: f64) -> f64 {
        let (mut weight, mut first, mut second) = (start, 0.0, 0.0);
        for step in 1..=steps as i32 {
            first = 0.9 * first + 0.1 * gradient;
            second = 0.99 * second + 0.01 * gradient * gradient;
            weight -= 0.1 * 0.5 * weight;
            let (mean, root) =
                (first / (1.0 - 0.9f64.powi(step)), (second / (1.0 - 0.99f64.powi(step))).sqrt());
            weight -= 0.1 * mean / (root + 1e-8);
        }
        weight
    }

    proptest! {
        #[test]
        fn several_steps_follow_the_textbook(start in -2f32..2.0, gradient in -2f32..2.0, scale in 0.1f32..1.0) {
            let (mut weight, mut first, mut second) = (vec![start; 37], vec![0.0; 37], vec![0.0; 37]);
            for step in 1..=5 {
                adamw_step(&Cpu, &SETTINGS, step, &mut weight, &[gradient; 37], scale, &mut first, &mut second, true);
            }
            let wanted = reference(5, f64::from(start), f64::from(gradient * scale));
            prop_assert!(weight.iter().all(|&found| (f64::from(found) - wanted).abs() < 1e-5 * (1.0 + wanted.abs())));
        }
    }
}

//! The optimiser's sweep over weights.

use super::chunks::{PIECE, run};
use super::vector::vectorised;
use crate::AdamWStep;

/// Pieces of fixed length, each weight on its own: no sum, so the bits cannot depend on the cut.
pub(super) fn adamw(
    step: &AdamWStep,
    weight: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let moments = first.chunks_mut(PIECE).zip(second.chunks_mut(PIECE));
    let tasks: Vec<_> = weight.chunks_mut(PIECE).zip(gradient.chunks(PIECE)).zip(moments).collect();
    run(tasks, |((weight, gradient), (first, second))| sweep(*step, weight, gradient, first, second));
}

vectorised! {
    /// One pass: moments, corrections, decay and step for each weight while it is in a register.
    fn sweep<'a>(
        step: AdamWStep,
        weight: &'a mut [f32],
        gradient: &'a [f32],
        first: &'a mut [f32],
        second: &'a mut [f32],
    ) {
        let AdamWStep { settings, gradient_scale, rate, root_correction, shrink } = step;
        let (beta1, beta2) = (settings.beta1, settings.beta2);
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((weight, &gradient), (first, second)) in weight.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * gradient_scale;
            *first = beta1.mul_add(*first, (1.0 - beta1) * gradient);
            *second = beta2.mul_add(*second, (1.0 - beta2) * gradient * gradient);
            let root = second.sqrt().mul_add(root_correction, settings.epsilon);
            *weight = weight.mul_add(shrink, -(rate * *first / root));
        }
    }
}

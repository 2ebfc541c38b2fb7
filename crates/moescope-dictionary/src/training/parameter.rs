//! One trained tensor with its moments.

use moescope_engine::Tensor;
use moescope_engine::optimizer::{AdamW, adamw_step};

/// A tensor and the two moments of its gradient that Adam keeps.
pub(crate) struct Parameter {
    pub(crate) value: Tensor,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Parameter {
    pub(crate) fn new(value: Tensor) -> Parameter {
        let zeros = vec![0.0; value.len()];
        Parameter { value, first: zeros.clone(), second: zeros }
    }

    /// One step of Adam against the gradient, without decay.
    pub(crate) fn step(&mut self, adam: &AdamW, step: u64, gradient: &Tensor, scale: f32) {
        adamw_step(
            &moescope_engine::Cpu,
            adam,
            step,
            self.value.data_mut(),
            gradient.data(),
            scale,
            &mut self.first,
            &mut self.second,
            false,
        );
    }

    /// Sets entries anew and forgets what their gradients were.
    pub(crate) fn reset(&mut self, places: impl Iterator<Item = usize>, values: impl Iterator<Item = f32>) {
        for (place, value) in places.zip(values) {
            self.value.data_mut()[place] = value;
            self.first[place] = 0.0;
            self.second[place] = 0.0;
        }
    }
}

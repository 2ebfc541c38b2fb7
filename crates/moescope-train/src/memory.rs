//! What a plan needs of memory, worked out before any of it is asked for.

use moescope_host::require_memory;
use moescope_model::FeedForward;

use crate::{StepMetrics, TrainError, TrainPlan};

/// Bytes that training holds for each parameter: weight, gradient and two moments, in f32.
const BYTES_PER_PARAMETER: f64 = 16.0;

impl TrainPlan {
    /// Memory in bytes that training takes, about: parameters with gradient and moments, the values of one step, and the
    /// metrics of all steps. The text and the program itself are not in it.
    pub fn memory(&self) -> f64 {
        let parameters = self.description.counts().parameters_total as f64;
        let metrics = self.steps as f64 * size_of::<StepMetrics>() as f64;
        BYTES_PER_PARAMETER * parameters + self.activation_bytes() + metrics
    }

    /// Refuses a plan that this machine has not the memory for.
    ///
    /// # Errors
    /// [`TrainError::Host`] with both sizes.
    pub fn require_memory(&self) -> Result<(), TrainError> {
        let parameters = self.description.counts().parameters_total as f64;
        let (batch, positions, steps) = (self.batch, self.positions, self.steps);
        let what = format!(
            "training {parameters:.2e} parameters for {steps} steps on batches of {batch} × {positions} tokens"
        );
        Ok(require_memory(&what, self.memory(), "make the model, the batch or the number of steps smaller")?)
    }

    /// Bytes of values and gradients of one training step: about twenty vectors of the residual width and six of the
    /// feed-forward width per token and block, logits twice, and attention patterns where the model has to store them.
    fn activation_bytes(&self) -> f64 {
        let description = &self.description;
        let tokens = self.batch as f64 * self.positions as f64;
        let widths: f64 = description.feed_forward.iter().map(|layer| 6.0 * computed_width(layer)).sum();
        let stored = if description.variation.is_plain() { 0.0 } else { 2.0 };
        let patterns = stored * description.heads as f64 * self.positions as f64;
        let block = 20.0 * description.d_model as f64 + patterns;
        4.0 * tokens * (block * description.layers() as f64 + widths + 2.0 * description.vocab as f64)
    }
}

/// Neurons that are computed for each token.
fn computed_width(layer: &FeedForward) -> f64 {
    match layer {
        FeedForward::Dense { width } | FeedForward::TopKDense { width, .. } => *width as f64,
        FeedForward::Routed(routed) => routed.per_token as f64 * routed.expert_width as f64,
    }
}

#[cfg(test)]
mod tests {
    use crate::TrainPlan;
    use crate::testing::{Family, plan};

    #[test]
    fn absurd_sizes_are_refused_with_what_they_need() {
        type Spoil = fn(&mut TrainPlan);
        let spoils: [Spoil; 4] = [
            |plan| plan.steps = 1 << 40,
            |plan| plan.batch = 1 << 30,
            |plan| plan.description.vocab = 1 << 30,
            |plan| plan.description.d_model = 1 << 30,
        ];
        for spoil in spoils {
            let mut plan = plan(Family::Moe, 10);
            plan.require_memory().unwrap();
            spoil(&mut plan);
            let error = plan.require_memory().unwrap_err().to_string();
            assert!(
                error.contains("of memory, and this machine has") && error.contains("smaller"),
                "{error}"
            );
        }
    }
}

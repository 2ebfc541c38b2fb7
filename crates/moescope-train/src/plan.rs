use moescope_model::{Description, FeedForward};
use serde::{Deserialize, Serialize};

use crate::{Schedule, TrainError};

/// Everything that decides a run but its data. Equal plans on equal batches give equal bits, on any number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainPlan {
    /// The model.
    pub description: Description,
    /// Seed of the initial weights. The order of the data has its own.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences in a batch.
    pub batch: usize,
    /// Tokens in a sequence, at most the model's `max_positions`.
    pub positions: usize,
    /// Peak of the learning rate.
    pub learning_rate: f32,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Share of the learning rate by which each step shrinks the weight matrices. Norms and embeddings do not decay.
    pub weight_decay: f32,
    /// Memory of the first moment, in `0..1`.
    pub beta1: f32,
    /// Memory of the second moment, in `0..1`.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Norm of all gradients together above which they are scaled down to it; infinity for no clipping.
    #[serde(with = "crate::unbounded")]
    pub clip: f32,
    /// How the load of the experts is evened.
    pub balance: Balance,
    /// Numbers of done steps after which a full model folder is kept; 0 is the model as drawn.
    pub checkpoints: Vec<u64>,
    /// Steps between resume states; `None` keeps one only when the run is stopped.
    pub save_every: Option<u64>,
    /// Whether values that are cheap to make again are made again on the way back instead of being kept: less memory, the same
    /// bits.
    #[serde(default)]
    pub recompute: bool,
}

/// How the load of the experts is evened. Everything is per layer: imbalances of different layers never cancel.
///
/// The two losses act on routers that learn (learned and committee); a frozen router would only bend the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balance {
    /// Coefficient of the balance loss `n * sum_i f_i P_i`, where `f` are shares of slots: 1 at perfect balance whatever
    /// the number of slots, so a sweep of granularity keeps the pressure constant. The layers' losses are summed.
    ///
    /// - **Source:** Fedus et al. 2022, equation 4, divided by the number of slots of a token.
    pub loss: f32,
    /// Coefficient of the mean squared log-sum-exp of the router's logits, summed over layers.
    ///
    /// - **Source:** Zoph et al. 2022 (ST-MoE), equation 5.
    pub z_loss: f32,
    /// Size `u` of the loss-free update `b_i += u * sign(mean load - load_i)` of the selection biases; `None` for none.
    ///
    /// - **Source:** Wang et al. 2024, "Auxiliary-Loss-Free Load Balancing", algorithm 1.
    pub loss_free: Option<f32>,
}

impl Balance {
    /// No balancing at all.
    pub const NONE: Balance = Balance { loss: 0.0, z_loss: 0.0, loss_free: None };
}

impl TrainPlan {
    /// Refuses a plan that cannot be trained.
    ///
    /// # Errors
    /// [`TrainError::Plan`] names the first field at fault; the description's own errors pass through.
    pub fn check(&self) -> Result<(), TrainError> {
        self.description.check()?;
        self.check_sizes()?;
        self.schedule.check(self.steps)?;
        self.check_optimiser()?;
        self.check_balance()
    }

    /// Tokens in one batch.
    pub fn tokens_per_step(&self) -> usize {
        self.batch * self.positions
    }

    fn check_sizes(&self) -> Result<(), TrainError> {
        // Limits far above any run keep products of sizes from running over.
        require((1..=1 << 40).contains(&self.steps), "steps", self.steps, "1 to 2^40")?;
        require((1..=1 << 30).contains(&self.batch), "batch", self.batch, "1 to 2^30")?;
        let longest = self.description.max_positions;
        let fits = (2..=longest).contains(&self.positions);
        require(fits, "positions", self.positions, format!("2 to {longest}, the model's max_positions"))?;
        let beyond = self.checkpoints.iter().find(|step| **step > self.steps);
        if let Some(step) = beyond {
            require(false, "checkpoints", step, format!("0 to {}, the number of steps", self.steps))?;
        }
        require(self.save_every != Some(0), "save_every", 0, "1 or more, or none")
    }

    fn check_optimiser(&self) -> Result<(), TrainError> {
        let positive = |x: f32| x > 0.0 && x.is_finite();
        let memory = |x: f32| (0.0..1.0).contains(&x);
        let decay = self.weight_decay;
        require(
            positive(self.learning_rate),
            "learning_rate",
            self.learning_rate,
            "a finite number above 0",
        )?;
        require(decay >= 0.0 && decay.is_finite(), "weight_decay", decay, "a finite number, 0 or more")?;
        require(memory(self.beta1), "beta1", self.beta1, "0 or more and below 1")?;
        require(memory(self.beta2), "beta2", self.beta2, "0 or more and below 1")?;
        require(positive(self.epsilon), "epsilon", self.epsilon, "a finite number above 0")?;
        require(self.clip > 0.0, "clip", self.clip, "a number above 0; infinity for no clipping")
    }

    fn check_balance(&self) -> Result<(), TrainError> {
        let share = |x: f32| x >= 0.0 && x.is_finite();
        let balance = &self.balance;
        require(share(balance.loss), "balance.loss", balance.loss, "a finite number, 0 or more")?;
        require(share(balance.z_loss), "balance.z_loss", balance.z_loss, "a finite number, 0 or more")?;
        let Some(update) = balance.loss_free else { return Ok(()) };
        let found = "balance.loss_free";
        require(update > 0.0 && update.is_finite(), found, update, "a finite number above 0, or none")?;
        let learns = self.description.feed_forward.iter().any(router_learns);
        require(learns, found, update, "none, since no layer has a router that learns")
    }
}

/// Whether a layer has a router whose weights are trained.
pub(crate) fn router_learns(layer: &FeedForward) -> bool {
    layer.routed().is_some_and(|routed| routed.router.kind.trained())
}

fn require(
    holds: bool,
    field: &'static str,
    found: impl ToString,
    wanted: impl Into<String>,
) -> Result<(), TrainError> {
    if holds {
        return Ok(());
    }
    Err(TrainError::Plan { field, found: found.to_string(), wanted: wanted.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Family, plan};

    #[test]
    fn a_sound_plan_passes() {
        for family in Family::ALL {
            plan(family, 10).check().unwrap();
        }
    }

    #[test]
    fn each_field_is_checked_by_name() {
        type Spoil = fn(&mut TrainPlan);
        let broken: [(&str, Spoil); 14] = [
            ("steps", |plan| plan.steps = 0),
            ("steps", |plan| plan.steps = u64::MAX),
            ("batch", |plan| plan.batch = usize::MAX),
            ("batch", |plan| plan.batch = 0),
            ("positions", |plan| plan.positions = 1),
            ("positions", |plan| plan.positions = 10_000),
            ("checkpoints", |plan| plan.checkpoints = vec![0, 11]),
            ("save_every", |plan| plan.save_every = Some(0)),
            ("learning_rate", |plan| plan.learning_rate = f32::NAN),
            ("weight_decay", |plan| plan.weight_decay = -0.1),
            ("beta2", |plan| plan.beta2 = 1.0),
            ("clip", |plan| plan.clip = 0.0),
            ("balance.loss", |plan| plan.balance.loss = -1.0),
            ("balance.loss_free", |plan| plan.balance.loss_free = Some(0.1)),
        ];
        for (field, spoil) in broken {
            let mut plan = plan(Family::Dense, 10);
            spoil(&mut plan);
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }

    #[test]
    fn a_plan_survives_json() {
        let plan = plan(Family::Committee, 10);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<TrainPlan>(&text).unwrap(), plan);
    }
}

use std::ops::Range;

use moescope_model::Description;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::syntax::Problem;
use crate::{Balance, Schedule, TrainPlan};

/// How a model of a configuration file is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingConfig {
    /// Seed of the weights and of the order of the data.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Windows in a batch.
    pub batch: usize,
    /// Peak of the learning rate.
    pub learning_rate: f32,
    /// Trapezoid unless given, with a warm-up of a twentieth and a decay of a quarter of the steps unless given.
    pub schedule: Schedule,
    /// 0.1 unless given.
    pub weight_decay: f32,
    /// 0.9 unless given.
    pub beta1: f32,
    /// 0.95 unless given.
    pub beta2: f32,
    /// 1e-8 unless given.
    pub epsilon: f32,
    /// Norm to which gradients are clipped; 1 unless given, infinity (`inf`) for no clipping.
    #[serde(serialize_with = "crate::unbounded::serialize")]
    pub clip: f32,
    /// Balance loss 0.01 and z-loss 0.001 unless given; no loss-free balancing unless given.
    pub balance: Balance,
    /// Steps after which a model folder is kept; none unless given.
    pub checkpoints: Vec<u64>,
    /// Steps between resume states; only when stopped unless given.
    pub save_every: Option<u64>,
    /// Whether cheap values are made again on the way back to save memory; not unless given.
    pub recompute: bool,
}

impl TrainingConfig {
    pub(super) fn plan(&self, description: Description, positions: usize) -> TrainPlan {
        TrainPlan {
            description,
            seed: self.seed,
            steps: self.steps,
            batch: self.batch,
            positions,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            weight_decay: self.weight_decay,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            clip: self.clip,
            balance: self.balance,
            checkpoints: self.checkpoints.clone(),
            save_every: self.save_every,
            recompute: self.recompute,
        }
    }
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    seed: u64,
    steps: Spanned<u64>,
    batch: Spanned<usize>,
    learning_rate: Spanned<f32>,
    schedule: Option<Spanned<ScheduleName>>,
    warmup: Option<Spanned<u64>>,
    decay: Option<Spanned<u64>>,
    floor: Option<Spanned<f32>>,
    weight_decay: Option<Spanned<f32>>,
    beta1: Option<Spanned<f32>>,
    beta2: Option<Spanned<f32>>,
    epsilon: Option<Spanned<f32>>,
    clip: Option<Spanned<f32>>,
    balance_loss: Option<Spanned<f32>>,
    z_loss: Option<Spanned<f32>>,
    loss_free: Option<Spanned<f32>>,
    checkpoints: Option<Spanned<Vec<u64>>>,
    save_every: Option<Spanned<u64>>,
    #[serde(default)]
    recompute: bool,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ScheduleName {
    Cosine,
    Trapezoid,
}

impl Section {
    /// Where the value of each field of a plan was written.
    pub(super) fn spans(&self) -> Vec<(&'static str, Range<usize>)> {
        fn of<T>(key: &Option<Spanned<T>>) -> Option<Range<usize>> {
            key.as_ref().map(Spanned::span)
        }
        let schedule = of(&self.floor).or(of(&self.warmup)).or(of(&self.decay)).or(of(&self.schedule));
        let keys = [
            ("steps", Some(self.steps.span())),
            ("batch", Some(self.batch.span())),
            ("learning_rate", Some(self.learning_rate.span())),
            ("schedule", schedule),
            ("weight_decay", of(&self.weight_decay)),
            ("beta1", of(&self.beta1)),
            ("beta2", of(&self.beta2)),
            ("epsilon", of(&self.epsilon)),
            ("clip", of(&self.clip)),
            ("balance.loss", of(&self.balance_loss)),
            ("balance.z_loss", of(&self.z_loss)),
            ("balance.loss_free", of(&self.loss_free)),
            ("checkpoints", of(&self.checkpoints)),
            ("save_every", of(&self.save_every)),
        ];
        keys.into_iter().filter_map(|(name, span)| Some((name, span?))).collect()
    }

    pub(super) fn check(self) -> Result<TrainingConfig, Problem> {
        let schedule = self.schedule()?;
        let number = |key: Option<Spanned<f32>>, otherwise| key.map_or(otherwise, Spanned::into_inner);
        Ok(TrainingConfig {
            seed: self.seed,
            steps: self.steps.into_inner(),
            batch: self.batch.into_inner(),
            learning_rate: self.learning_rate.into_inner(),
            schedule,
            weight_decay: number(self.weight_decay, 0.1),
            beta1: number(self.beta1, 0.9),
            beta2: number(self.beta2, 0.95),
            epsilon: number(self.epsilon, 1e-8),
            clip: number(self.clip, 1.0),
            balance: Balance {
                loss: number(self.balance_loss, 0.01),
                z_loss: number(self.z_loss, 0.001),
                loss_free: self.loss_free.map(Spanned::into_inner),
            },
            checkpoints: self.checkpoints.map(Spanned::into_inner).unwrap_or_default(),
            save_every: self.save_every.map(Spanned::into_inner),
            recompute: self.recompute,
        })
    }

    fn schedule(&self) -> Result<Schedule, Problem> {
        let steps = *self.steps.get_ref();
        let name = self.schedule.as_ref().map_or(ScheduleName::Trapezoid, |name| *name.get_ref());
        let warmup = self.warmup.as_ref().map_or(steps / 20, |warmup| *warmup.get_ref());
        match (name, &self.decay, &self.floor) {
            (ScheduleName::Trapezoid, decay, None) => {
                let decay = decay.as_ref().map_or(steps / 4, |decay| *decay.get_ref());
                Ok(Schedule::Trapezoid { warmup, decay })
            }
            (ScheduleName::Cosine, None, floor) => {
                let floor = floor.as_ref().map_or(0.1, |floor| *floor.get_ref());
                Ok(Schedule::Cosine { warmup, floor })
            }
            (ScheduleName::Trapezoid, _, Some(floor)) => {
                let problem = "`floor` means nothing in a trapezoid, which falls towards 0; remove it";
                Err(Problem::new(floor.span(), problem.into()))
            }
            (ScheduleName::Cosine, Some(decay), _) => {
                let problem = "`decay` means nothing in a cosine, which falls all the time; remove it";
                Err(Problem::new(decay.span(), problem.into()))
            }
        }
    }
}

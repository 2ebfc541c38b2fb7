use moescope_base::Seed;
use moescope_engine::{Device, Gradients, Mode, RoutePlan, Tape};
use moescope_model::{Model, Pass};
use std::sync::Arc;

use crate::balance::{self, number};
use crate::optimiser::{self, Moments};
use crate::{Batch, StepMetrics, TrainError, TrainPlan};

/// Everything that a run carries from one step to the next.
#[derive(Debug)]
pub(crate) struct State {
    /// Weights and selection biases.
    pub(crate) model: Model,
    /// AdamW's memory, one entry per parameter.
    pub(crate) moments: Vec<Moments>,
    /// Steps done.
    pub(crate) step: u64,
    /// What the done steps measured.
    pub(crate) metrics: Vec<StepMetrics>,
}

impl State {
    /// The state before the first step.
    pub(crate) fn start(plan: &TrainPlan) -> Result<State, TrainError> {
        let model = Model::initialise(plan.description.clone(), Seed(plan.seed))?;
        let moments = Moments::zeros(model.parameters());
        Ok(State { model, moments, step: 0, metrics: Vec::new() })
    }

    /// One step: forward, losses, backward, clip, AdamW, selection biases.
    ///
    /// A step that meets numbers that are not finite is an error and changes nothing.
    pub(crate) fn advance(
        &mut self,
        device: &dyn Device,
        plan: &TrainPlan,
        batch: &Batch,
    ) -> Result<(), TrainError> {
        let step = self.step;
        batch.check(plan, step)?;
        let mut measured = measure(device, &self.model, plan, step, batch)?;
        let norm = measured.metrics.gradient_norm;
        if !(measured.metrics.loss.is_finite() && norm.is_finite()) {
            return Err(TrainError::Diverged { step, loss: measured.metrics.loss, gradient_norm: norm });
        }
        let factor = optimiser::clip_factor(norm, plan.clip);
        optimiser::update(
            device,
            &mut self.model,
            &mut self.moments,
            &mut measured.gradients,
            plan,
            step,
            factor,
        );
        if let Some(update) = plan.balance.loss_free {
            balance::even_loads(&mut self.model, update, &borrowed(&measured.loads));
        }
        self.metrics.push(measured.metrics);
        self.step += 1;
        Ok(())
    }
}

/// What one batch tells about a model.
pub(crate) struct Measured {
    pub(crate) gradients: Gradients,
    pub(crate) metrics: StepMetrics,
    /// Routed layers with the choices of their tokens.
    pub(crate) loads: Vec<(usize, Arc<RoutePlan>)>,
}

/// Forward and backward pass over a batch; changes nothing.
pub(crate) fn measure(
    device: &dyn Device,
    model: &Model,
    plan: &TrainPlan,
    step: u64,
    batch: &Batch,
) -> Result<Measured, TrainError> {
    let mut tape = Tape::on(device, if plan.recompute { Mode::Recomputing } else { Mode::Gradient });
    // The step salts the random router, so that it draws anew at every step.
    let mut pass = Pass { salt: step, ..Pass::plain() };
    let forward = model.forward(&mut tape, &batch.tokens, &mut pass)?;
    let cross_entropy = tape.cross_entropy(forward.logits, &batch.targets)?;
    let loss = number(&tape, cross_entropy);
    let objective =
        balance::objective(&mut tape, model.description(), &plan.balance, cross_entropy, &forward.routes)?;
    let gradients = tape.backward(objective.total)?;
    let loads: Vec<_> = forward.routes.iter().map(|route| (route.layer, Arc::clone(&route.plan))).collect();
    let metrics = StepMetrics {
        step: step + 1,
        loss,
        balance_loss: objective.balance,
        z_loss: objective.z,
        gradient_norm: optimiser::gradient_norm(model.parameters(), &gradients),
        learning_rate: f64::from(optimiser::learning_rate(plan, step)),
        load_max_violation: balance::max_violation(&borrowed(&loads)),
        dead_experts: balance::dead_share(&borrowed(&loads)),
        tokens: (step + 1) * plan.tokens_per_step() as u64,
    };
    Ok(Measured { gradients, metrics, loads })
}

fn borrowed(loads: &[(usize, Arc<RoutePlan>)]) -> Vec<(usize, &RoutePlan)> {
    loads.iter().map(|(layer, plan)| (*layer, plan.as_ref())).collect()
}

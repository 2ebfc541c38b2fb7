use moescope_engine::optimizer::{AdamW, adamw_step, global_norm};
use moescope_engine::{Device, Gradients, ParameterId};
use moescope_model::{Model, Parameter};

use crate::TrainPlan;

/// AdamW's memory of one parameter, each as long as the parameter; empty for one that is not trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl Moments {
    /// The memory before the first step, one entry per parameter of the model.
    pub(crate) fn zeros(parameters: &[Parameter]) -> Vec<Moments> {
        parameters.iter().map(Moments::of).collect()
    }

    fn of(parameter: &Parameter) -> Moments {
        let length = if parameter.trained { parameter.tensor.len() } else { 0 };
        Moments { first: vec![0.0; length], second: vec![0.0; length] }
    }
}

/// Norm of all gradients of trained parameters together, summed in the order of the parameters.
pub(crate) fn gradient_norm(parameters: &[Parameter], gradients: &Gradients) -> f64 {
    let trained = (0..parameters.len()).filter(|&index| parameters[index].trained).map(ParameterId);
    let gradients = trained.filter_map(|id| Some((gradients.parameter(id)?.data(), gradients.reached(id))));
    global_norm(gradients.flat_map(|(data, reached)| reached.into_iter().map(move |entries| &data[entries])))
}

/// Factor that brings gradients of the given norm down to `clip`; 1 where they are below it.
pub(crate) fn clip_factor(norm: f64, clip: f32) -> f32 {
    if norm > f64::from(clip) { (f64::from(clip) / norm) as f32 } else { 1.0 }
}

/// Moves every trained parameter one AdamW step. `step` counts from 0.
///
/// What the loss did not reach stays as it is, moments included, and does not decay: the experts of a layer that no token of
/// the batch chose. So do modules of PyTorch that no token went through, whose gradient is none; and a step costs what the
/// chosen experts cost, however many there are.
pub(crate) fn update(
    device: &dyn Device,
    model: &mut Model,
    moments: &mut [Moments],
    gradients: &mut Gradients,
    plan: &TrainPlan,
    step: u64,
    factor: f32,
) {
    let adamw = settings(plan, step);
    let parameters = model.parameters_mut().iter_mut().zip(moments).enumerate();
    for (index, (parameter, moments)) in parameters.filter(|(_, (parameter, _))| parameter.trained) {
        let id = ParameterId(index);
        let (adamw, decay, reached) =
            (at_own_rate(&adamw, parameter), decays(parameter), gradients.reached(id));
        let Some(gradient) = gradients.take_parameter(id) else { continue };
        for entries in reached {
            adamw_step(
                device,
                &adamw,
                step + 1,
                &mut parameter.tensor.data_mut()[entries.clone()],
                &gradient.data()[entries.clone()],
                factor,
                &mut moments.first[entries.clone()],
                &mut moments.second[entries],
                decay,
            );
        }
    }
}

/// The settings for one parameter: its own learning rate, and the same decay for all.
fn at_own_rate(adamw: &AdamW, parameter: &Parameter) -> AdamW {
    let factor = parameter.rate_factor;
    AdamW { learning_rate: adamw.learning_rate * factor, weight_decay: adamw.weight_decay / factor, ..*adamw }
}

/// Whether weight decay acts on a parameter: on the matrices, not on norms, and not on the embedding, whose rows a batch
/// mostly leaves without gradient, so that rare tokens would shrink for being rare.
fn decays(parameter: &Parameter) -> bool {
    parameter.decay && !parameter.name.ends_with("embed_tokens.weight")
}

/// AdamW as the plan sets it at a step, counted from 0.
fn settings(plan: &TrainPlan, step: u64) -> AdamW {
    AdamW {
        learning_rate: learning_rate(plan, step),
        beta1: plan.beta1,
        beta2: plan.beta2,
        epsilon: plan.epsilon,
        weight_decay: plan.weight_decay,
    }
}

/// The learning rate at a step, counted from 0.
pub(crate) fn learning_rate(plan: &TrainPlan, step: u64) -> f32 {
    (f64::from(plan.learning_rate) * plan.schedule.share(step, plan.steps)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{State, measure};
    use crate::testing::{Family, Pattern, plan};
    use crate::{Batch, Batches, Schedule};
    use moescope_base::Tokens;
    use moescope_engine::Tensor;

    #[test]
    fn gradients_are_clipped_to_the_norm_and_never_stretched() {
        assert_eq!(clip_factor(4.0, 1.0), 0.25);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(0.5, f32::INFINITY), 1.0);
    }

    /// After the first step the bias-corrected moments are the gradient and its square, so AdamW moves a weight `w` to
    /// `w - rate * decay * w - rate * g / (|g| + epsilon)`.
    #[test]
    fn the_first_step_is_as_worked_by_hand() {
        let mut plan = plan(Family::Dense, 4);
        plan.schedule = Schedule::Trapezoid { warmup: 1, decay: 0 }; // the first share is 1/2
        (plan.learning_rate, plan.weight_decay, plan.epsilon, plan.clip) = (0.02, 0.5, 1e-6, f32::INFINITY);
        let batch = Pattern::of(&plan).batch(0);
        let mut state = State::start(&plan).unwrap();
        let before: Vec<Tensor> = state.model.parameters().iter().map(|p| p.tensor.clone()).collect();
        let gradients = measure(&moescope_engine::Cpu, &state.model, &plan, 0, &batch).unwrap().gradients;
        state.advance(&moescope_engine::Cpu, &plan, &batch).unwrap();
        for (index, (before, parameter)) in before.iter().zip(state.model.parameters()).enumerate() {
            let decay = if decays(parameter) { 0.5 } else { 0.0 };
            let gradient = gradients.parameter(ParameterId(index)).unwrap();
            let entries = before.data().iter().zip(parameter.tensor.data()).zip(gradient.data());
            for ((before, after), gradient) in entries {
                let wanted = before - 0.01 * decay * before - 0.01 * gradient / (gradient.abs() + 1e-6);
                assert!((after - wanted).abs() < 1e-5, "{}: {after} for {wanted}", parameter.name);
            }
        }
    }

    /// A batch of one token id sends its tokens to few experts.
    #[test]
    fn experts_that_no_token_chose_stay_as_they_are_to_the_bit() {
        let plan = plan(Family::Moe, 4);
        let mut state = State::start(&plan).unwrap();
        let ids = vec![1; plan.batch * plan.positions];
        let batch = Batch::next_token(Tokens::new(ids, plan.batch, plan.positions).unwrap());
        // Two steps, so that moments are there to fade.
        for step in 0..2 {
            let before: Vec<Tensor> = state.model.parameters().iter().map(|p| p.tensor.clone()).collect();
            let moments = state.moments.clone();
            let measured = measure(&moescope_engine::Cpu, &state.model, &plan, step, &batch).unwrap();
            state.advance(&moescope_engine::Cpu, &plan, &batch).unwrap();
            let mut idle = 0;
            for (index, parameter) in state.model.parameters().iter().enumerate() {
                let Some(layer) = stack_layer(&parameter.name) else { continue };
                let (_, routes) = measured.loads.iter().find(|(of, _)| *of == layer).unwrap();
                let size = parameter.tensor.len() / routes.experts();
                for (expert, &count) in routes.counts().iter().enumerate() {
                    let entries = expert * size..(expert + 1) * size;
                    let same =
                        parameter.tensor.data()[entries.clone()] == before[index].data()[entries.clone()];
                    let kept = state.moments[index].first[entries.clone()] == moments[index].first[entries];
                    assert_eq!((same, kept), (count == 0, count == 0), "{} of {expert}", parameter.name);
                    idle += usize::from(count == 0);
                }
            }
            assert!(idle > 0, "some expert is idle");
        }
    }

    /// The layer of a stack of experts.
    fn stack_layer(name: &str) -> Option<usize> {
        let (before, _) = name.split_once(".mlp.experts.")?;
        before.rsplit('.').next()?.parse().ok()
    }

    #[test]
    fn matrices_decay_and_norms_and_embeddings_do_not() {
        let state = State::start(&plan(Family::Moe, 4)).unwrap();
        for parameter in state.model.parameters() {
            let matrix = ["proj", "gate.weight", "lm_head"].iter().any(|part| parameter.name.contains(part));
            assert_eq!(decays(parameter), matrix, "{}", parameter.name);
        }
    }
}

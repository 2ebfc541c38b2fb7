//! The layer of experts.

use std::sync::Arc;

use moescope_base::{HookPoint, Site};
use moescope_engine::{RoutePlan, Var};

use super::neurons::neurons;
use super::shared::shared;
use crate::ModelError;
use crate::description::Routed;
use crate::forward::Run;
use crate::parameters::Linear;
use crate::pass::LayerRoutes;
use crate::router;

/// Routes every token, runs the chosen experts, adds their weighted outputs, and what the shared expert says:
/// `[token, model]` → `[token, model]`.
pub(crate) fn routed(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    routed: &Routed,
    routes: &mut Vec<LayerRoutes>,
) -> Result<Var, ModelError> {
    let index = run.model.layout().blocks[layer];
    let chosen = router::route(run, layer, x, routed)?;
    let plan = &chosen.plan;
    let gate = branch(run, layer, x, index.hidden.gate, Site::ExpertGate, plan)?; // [slot_row, neuron]
    let up = match index.hidden.up {
        Some(up) => Some(branch(run, layer, x, up, Site::ExpertPre, plan)?),
        None => None,
    };
    let hidden = neurons(run.tape, gate, up, run.model.description().variation.neuron)?;
    let hidden = run.at_experts(Site::ExpertPost, layer, hidden, plan)?;
    let mut sum = combined(run, layer, hidden, index.hidden.down, &chosen)?; // [token, model]
    if let Some(bias) = index.routed_bias {
        let bias = run.weight(bias);
        sum = run.tape.add_bias(sum, bias)?;
    }
    run.forget(&[gate, hidden]);
    up.into_iter().for_each(|up| run.forget(&[up]));
    routes.push(chosen);
    let sum = run.at(HookPoint::block(Site::RoutedOut, layer), sum)?;
    let Some(index) = index.shared else { return Ok(sum) };
    let shared = shared(run, layer, x, index)?;
    let output = run.tape.add(sum, shared)?;
    run.forget(&[sum, shared]);
    Ok(output)
}

/// One of the two products that lead to the neurons of the chosen experts.
fn branch(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    linear: Linear,
    site: Site,
    plan: &Arc<RoutePlan>,
) -> Result<Var, ModelError> {
    let weight = run.weight(linear.weight);
    let product = run.tape.expert_input(x, weight, plan)?;
    let product = biased(run, product, linear, plan)?;
    run.at_experts(site, layer, product, plan)
}

/// Adds the bias of each expert to its slot rows, if there is one.
fn biased(
    run: &mut Run<'_, '_, '_>,
    product: Var,
    linear: Linear,
    plan: &Arc<RoutePlan>,
) -> Result<Var, ModelError> {
    let Some(place) = linear.bias else { return Ok(product) };
    let bias = run.weight(place);
    let sum = run.tape.add_expert_bias(product, bias, plan)?;
    run.forget(&[product]);
    Ok(sum)
}

/// The weighted sum of the experts' answers.
///
/// The answers of single experts are the largest value of the layer; they are made only for those who look at them, and where
/// each has a bias.
fn combined(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    hidden: Var,
    down: Linear,
    chosen: &LayerRoutes,
) -> Result<Var, ModelError> {
    let plan = &chosen.plan;
    let weight = run.weight(down.weight);
    if down.bias.is_none() && !run.meets_experts(Site::ExpertOut, layer, plan.experts()) {
        return Ok(run.tape.expert_output(hidden, weight, chosen.weights, plan)?);
    }
    let outputs = run.tape.expert_linear(hidden, weight, plan)?; // [slot_row, model]
    let outputs = biased(run, outputs, down, plan)?;
    let outputs = run.at_experts(Site::ExpertOut, layer, outputs, plan)?;
    let sum = run.tape.expert_combine(outputs, chosen.weights, plan)?;
    run.forget(&[outputs]);
    Ok(sum)
}

//! The layer of experts.

use moescope_base::{HookPoint, Site};
use moescope_engine::Var;

use crate::ModelError;
use crate::description::Routed;
use crate::forward::Run;
use crate::pass::LayerRoutes;
use crate::router;

/// Routes every token, runs the chosen experts, and adds their weighted outputs: `[token, model]` → `[token, model]`.
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
    let weight = run.weight(index.gate);
    let gate = run.tape.expert_input(x, weight, plan)?; // [slot_row, neuron]
    let gate = run.at_experts(Site::ExpertGate, layer, gate, plan)?;
    let weight = run.weight(index.up);
    let up = run.tape.expert_input(x, weight, plan)?;
    let up = run.at_experts(Site::ExpertPre, layer, up, plan)?;
    let hidden = run.tape.swiglu(gate, up)?;
    let hidden = run.at_experts(Site::ExpertPost, layer, hidden, plan)?;
    let weight = run.weight(index.down);
    // The answers of single experts are the largest value of the layer; they are made only for those who look at them.
    let sum = if run.meets_experts(Site::ExpertOut, layer, plan.experts()) {
        let outputs = run.tape.expert_linear(hidden, weight, plan)?; // [slot_row, model]
        let outputs = run.at_experts(Site::ExpertOut, layer, outputs, plan)?;
        let sum = run.tape.expert_combine(outputs, chosen.weights, plan)?;
        run.forget(&[outputs]);
        sum
    } else {
        run.tape.expert_output(hidden, weight, chosen.weights, plan)?
    }; // [token, model]
    run.forget(&[gate, up, hidden]);
    routes.push(chosen);
    run.at(HookPoint::block(Site::RoutedOut, layer), sum)
}

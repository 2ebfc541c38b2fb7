//! The layer of experts.
//!
//! A token has as many rows here as it has experts. Rows are put together by expert, so that a matrix of an
//! expert is multiplied once with all tokens that chose it, and none for a token that did not; the plan of a
//! layer says which row is whose.

use std::ops::Range;
use std::sync::Arc;

use moescope_base::{HookPoint, Site};
use moescope_engine::{RoutePlan, Tensor, Var};

use super::neurons::neurons;
use super::shared::shared;
use super::weighted_outputs::weighted_sum;
use crate::ModelError;
use crate::description::Routed;
use crate::folder::Stock;
use crate::forward::Run;
use crate::parameters::{HiddenIndex, Linear};
use crate::pass::LayerRoutes;
use crate::router;
use crate::streamed::parts;

/// Routes every token, runs the chosen experts, adds their weighted outputs, and what the shared expert says:
/// `[token, model]` → `[token, model]`.
///
/// The shared expert reads the same input as the others, has no part in the choice, and is added after the
/// sum over the chosen ones was recorded and edited: `RoutedOut` is without it.
pub(crate) fn routed(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    routed: &Routed,
    routes: &mut Vec<LayerRoutes>,
) -> Result<Var, ModelError> {
    let index = run.model.layout().blocks[layer];
    let chosen = router::route(run, layer, x, routed)?;
    if run.ends_at_router(layer) {
        return Ok(x); // which nobody reads
    }
    let mut sum = match run.model.stock() {
        None => at_once(run, layer, x, index.hidden, &chosen)?,
        Some(stock) => by_parts(run, layer, x, stock, &chosen)?,
    };
    if let Some(bias) = index.routed_bias {
        let bias = run.weight(bias)?;
        sum = run.tape.add_bias(sum, bias)?;
    }
    routes.push(chosen);
    let sum = run.at(HookPoint::block(Site::RoutedOut, layer), sum)?;
    let Some(index) = index.shared else { return Ok(sum) };
    let shared = shared(run, layer, x, index)?;
    let output = run.tape.add(sum, shared)?;
    run.forget(&[sum, shared]);
    Ok(output)
}

/// Some experts of a layer, and the rows that are theirs.
struct Part {
    experts: Range<usize>,
    /// These experts alone, numbered from 0 as in weights of theirs alone.
    own: Arc<RoutePlan>,
    /// The same rows under the experts' numbers in the layer, as listeners and edits know them.
    named: Arc<RoutePlan>,
}

impl Part {
    /// All experts.
    fn all(plan: &Arc<RoutePlan>) -> Part {
        Part { experts: 0..plan.experts(), own: Arc::clone(plan), named: Arc::clone(plan) }
    }

    /// Some.
    fn of(plan: &RoutePlan, experts: Range<usize>) -> Part {
        let (own, named) = (Arc::new(plan.part(experts.clone())), Arc::new(plan.only(experts.clone())));
        Part { experts, own, named }
    }
}

/// All experts together: the weighted sum of their answers, `[token, model]`.
///
/// The answers of single experts are the largest value of the layer; they are made only for those who look at them, and where
/// each has a bias.
fn at_once(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    index: HiddenIndex,
    chosen: &LayerRoutes,
) -> Result<Var, ModelError> {
    let plan = &chosen.plan;
    let part = Part::all(plan);
    let hidden = hidden(run, layer, x, index, &part)?;
    let single = [Site::ExpertOut, Site::ExpertOutWeighted];
    let looked_at = single.iter().any(|site| run.meets_experts(*site, layer, plan.experts()));
    let sum = if index.down.bias.is_none() && !looked_at {
        let weight = run.weight(index.down.weight)?;
        run.tape.expert_output(hidden, weight, chosen.weights, plan)?
    } else {
        let outputs = answers(run, layer, hidden, index.down, &part)?;
        let sum = weighted_sum(run, layer, outputs, chosen)?;
        run.forget(&[outputs]);
        sum
    };
    run.forget(&[hidden]);
    Ok(sum)
}

/// The same, with the weights of a few experts in memory at a time. The bits are the same, because each expert's products are its own
/// and the sum is taken at the end, in the order of the experts.
fn by_parts(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    stock: &Stock,
    chosen: &LayerRoutes,
) -> Result<Var, ModelError> {
    let (model, plan) = (run.model, &chosen.plan);
    let (index, width) = (model.layout().blocks[layer].hidden, model.description().d_model);
    let mut all = Tensor::zeros([plan.rows(), width]);
    for experts in parts(plan, &model.expert_cost(stock, layer), stock.room) {
        let mark = run.tape.mark();
        let part = Part::of(plan, experts.clone());
        let hidden = hidden(run, layer, x, index, &part)?;
        let outputs = answers(run, layer, hidden, index.down, &part)?; // [slot_row of the part, model]
        let rows = plan.offsets()[experts.start] * width..plan.offsets()[experts.end] * width;
        all.data_mut()[rows].copy_from_slice(run.tape.value(outputs).data());
        run.tape.discard_since(mark, x);
    }
    let all = run.tape.constant(all);
    let sum = weighted_sum(run, layer, all, chosen)?;
    run.forget(&[all]);
    Ok(sum)
}

/// What the neurons of a part's experts say: `[slot_row, neuron]`, the rows in the order of the part's plan.
///
/// Edits and listeners meet gate, linear branch and neurons here, one expert after the other.
fn hidden(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    index: HiddenIndex,
    part: &Part,
) -> Result<Var, ModelError> {
    let gate = branch(run, layer, x, index.gate, Site::ExpertGate, part)?;
    let up = match index.up {
        Some(up) => Some(branch(run, layer, x, up, Site::ExpertPre, part)?),
        None => None,
    };
    let hidden = neurons(run.tape, gate, up, run.model.description().variation.neuron)?;
    let hidden = run.at_experts(Site::ExpertPost, layer, hidden, &part.named, part.experts.clone())?;
    run.forget(&[gate]);
    up.into_iter().for_each(|up| run.forget(&[up]));
    Ok(hidden)
}

/// One of the two products that lead to the neurons of the chosen experts.
fn branch(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    linear: Linear,
    site: Site,
    part: &Part,
) -> Result<Var, ModelError> {
    let weight = weight(run, linear.weight, part)?;
    let product = run.tape.expert_input(x, weight, &part.own)?;
    run.done_with(weight);
    let product = biased(run, product, linear, part)?;
    run.at_experts(site, layer, product, &part.named, part.experts.clone())
}

/// What each expert of a part answers, `[slot_row, model]`.
fn answers(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    hidden: Var,
    down: Linear,
    part: &Part,
) -> Result<Var, ModelError> {
    let weight = weight(run, down.weight, part)?;
    let outputs = run.tape.expert_linear(hidden, weight, &part.own)?;
    run.done_with(weight);
    let outputs = biased(run, outputs, down, part)?;
    run.at_experts(Site::ExpertOut, layer, outputs, &part.named, part.experts.clone())
}

/// Adds the bias of each expert to its slot rows, if there is one.
fn biased(run: &mut Run<'_, '_, '_>, product: Var, linear: Linear, part: &Part) -> Result<Var, ModelError> {
    let Some(place) = linear.bias else { return Ok(product) };
    let bias = weight(run, place, part)?;
    let sum = run.tape.add_expert_bias(product, bias, &part.own)?;
    run.forget(&[product]);
    Ok(sum)
}

/// A parameter of the experts of a part, `[expert, ...]`. Experts without tokens are not read from files.
fn weight(run: &mut Run<'_, '_, '_>, place: usize, part: &Part) -> Result<Var, ModelError> {
    let Some(stock) = run.model.stock() else { return run.weight(place) };
    let wanted = &run.model.layout().specifications[place];
    let needed = |expert: usize| part.named.counts()[expert] > 0;
    let tensor = stock.experts(place, wanted, part.experts.clone(), &needed)?;
    Ok(run.tape.constant(tensor))
}

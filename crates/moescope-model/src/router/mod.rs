//! The router: which experts a token goes to, and with what weight. All in `f32`, written once.

mod groups;
mod scores;
mod selection;
mod unscored;
mod weights;

use std::sync::Arc;

use moescope_base::{HookPoint, Site};
use moescope_engine::{RoutePlan, Tensor, Var};

use crate::ModelError;
use crate::description::{Order, Routed, RouterKind};
use crate::forward::Run;
use crate::pass::{Heard, LayerRoutes};

pub(crate) use selection::Selection;
pub(crate) use weights::plain_weights;

/// Routes the tokens `x[token, model]` of one layer.
pub(crate) fn route(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    routed: &Routed,
) -> Result<LayerRoutes, ModelError> {
    let selection = run.edits.selection(layer, routed, run.tokens.len())?;
    match routed.router.kind.scores() {
        true => by_scores(run, layer, x, routed, &selection),
        false => by_function(run, layer, routed, &selection),
    }
}

/// A router with logits: its choice goes by score plus bias, its weights by score alone.
fn by_scores(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    routed: &Routed,
    selection: &Selection,
) -> Result<LayerRoutes, ModelError> {
    let place = run.model.layout().blocks[layer].router.expect("a scoring router has a matrix");
    let logits = run.linear(x, place)?; // [token, expert]
    let logits = run.at(HookPoint::block(Site::RouterLogits, layer), logits)?;
    let scores = scores::scores(run.tape, logits, routed.router.score)?;
    run.tell(HookPoint::block(Site::RouterScores, layer), Heard::Whole(scores));
    // What decides the order of a token's experts: the quantity that becomes their weight.
    let strength = match routed.router.order {
        Order::ScoreThenSelect => scores,
        Order::SelectThenScore | Order::OneByOne => logits,
    };
    let mut select = selection::biased(run.tape.value(strength).data(), run.model.selection_bias(layer));
    if let Some(groups) = routed.router.groups {
        groups::keep_chosen(&mut select, routed.experts, groups);
    }
    run.tell(HookPoint::block(Site::RouterSelect, layer), Heard::Numbers(&select));
    let mut choices = selection.choose(&select, run.tape.value(strength).data(), routed.experts);
    if routed.router.order == Order::OneByOne {
        weights::order_pairs(run.tape.value(logits), &mut choices, routed.router.tolerance as f32);
    }
    let plan = planned(run, layer, &choices, routed)?;
    let weights = weights::weights(run.tape, strength, &plan, &routed.router)?; // [token, slot]
    let weights = run.at(HookPoint::block(Site::RouterWeights, layer), weights)?;
    Ok(LayerRoutes { layer, plan, logits: Some(logits), scores: Some(scores), weights })
}

/// A router without logits: listeners are told that there are none, and every chosen expert weighs `1 / per_token`.
fn by_function(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    routed: &Routed,
    selection: &Selection,
) -> Result<LayerRoutes, ModelError> {
    for site in [Site::RouterLogits, Site::RouterScores, Site::RouterSelect] {
        run.tell(HookPoint::block(site, layer), Heard::Unscored { experts: routed.experts });
    }
    let priorities = match routed.router.kind {
        RouterKind::Random { seed } => {
            unscored::random(run.tokens, routed.experts, seed, layer, run.pass.salt)
        }
        RouterKind::Hash { seed } => unscored::hash(run.tokens, routed.experts, seed, layer),
        _ => unreachable!("other routers score"),
    };
    let equal = vec![0.0; priorities.len()];
    let choices = selection.choose(&priorities, &equal, routed.experts);
    let plan = planned(run, layer, &choices, routed)?;
    let share = 1.0 / routed.per_token as f32;
    let weights = run.tape.constant(Tensor::full([run.tokens.len(), routed.per_token], share));
    let weights = run.at(HookPoint::block(Site::RouterWeights, layer), weights)?;
    Ok(LayerRoutes { layer, plan, logits: None, scores: None, weights })
}

/// The choices `[token, slot]` sorted by expert, told to whoever listens.
fn planned(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    choices: &[u32],
    routed: &Routed,
) -> Result<Arc<RoutePlan>, ModelError> {
    let plan = Arc::new(RoutePlan::new(choices, routed.experts, routed.per_token)?);
    run.tell(HookPoint::block(Site::RouterIndices, layer), Heard::Routes(&plan));
    Ok(plan)
}

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
use crate::forward::{self, Run};
use crate::pass::{Heard, LayerRoutes};
use crate::route_edits::LayerRule;

pub(crate) use selection::Selection;
pub(crate) use weights::plain_weights;

/// Routes the tokens `x[token, model]` of one layer.
pub(crate) fn route(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    routed: &Routed,
) -> Result<LayerRoutes, ModelError> {
    let rule = run.edits.rule(layer, routed, run.tokens.len())?;
    let point = HookPoint::block(Site::RouterIn, layer);
    // A value of its own, so that an edit or a gradient there is that of the router alone; without either it is what the experts read.
    let x = match run.meets(point) && routed.router.kind.scores() {
        true => run.tape.scale(x, 1.0)?,
        false => x,
    };
    let x = run.at(point, x)?;
    match routed.router.kind.scores() {
        true => by_scores(run, layer, x, &rule),
        false => by_function(run, layer, &rule),
    }
}

/// A router with logits: its choice goes by score plus bias, its weights by score alone.
fn by_scores(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    rule: &LayerRule<'_>,
) -> Result<LayerRoutes, ModelError> {
    let routed = &rule.routed;
    let place = run.model.layout().blocks[layer].router.expect("a scoring router has a matrix");
    let logits = run.linear(x, place)?; // [token, expert]
    let logits = run.at(HookPoint::block(Site::RouterLogits, layer), logits)?;
    let tempered = forward::scaled(run.tape, logits, 1.0 / rule.temperature)?;
    let scores = scores::scores(run.tape, tempered, routed.router.score)?;
    let scores = run.at(HookPoint::block(Site::RouterScores, layer), scores)?;
    // What decides the order of a token's experts: the quantity that becomes their weight.
    let strength = match routed.router.order {
        Order::ScoreThenSelect => scores,
        Order::SelectThenScore | Order::OneByOne => tempered,
    };
    let select = selection_scores(run, layer, strength, rule)?;
    let ranks = run.tape.value(strength).data();
    let mut choices = rule.selection.choose(&select, ranks, routed.experts);
    change_choices(run, layer, &mut choices, ranks, rule)?;
    if routed.router.order == Order::OneByOne {
        weights::order_pairs(run.tape.value(tempered), &mut choices, routed.router.tolerance as f32);
    }
    let plan = planned(run, layer, &choices, routed)?;
    let weights = weights::weights(run.tape, (tempered, strength), &plan, &routed.router)?; // [token, slot]
    let weights = weights::given(run.tape, weights, &plan, layer, rule)?;
    let weights = run.at(HookPoint::block(Site::RouterWeights, layer), weights)?;
    Ok(LayerRoutes { layer, plan, logits: Some(logits), scores: Some(scores), weights })
}

/// What the top-k choice sees, after edits and told to whoever listens: `[token, expert]`.
fn selection_scores(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    strength: Var,
    rule: &LayerRule<'_>,
) -> Result<Vec<f32>, ModelError> {
    let point = HookPoint::block(Site::RouterSelect, layer);
    let mut select = selection::biased(run.tape.value(strength).data(), run.model.selection_bias(layer));
    if let Some(groups) = rule.routed.router.groups {
        groups::keep_chosen(&mut select, rule.routed.experts, groups);
    }
    if run.edits.touches(point) && matches!(rule.selection, Selection::Given { .. }) {
        return Err(ModelError::edit(
            point,
            "recorded routes are replayed here, so nothing is chosen by these scores",
        ));
    }
    run.edits.change_numbers(point, &mut select, run.tokens)?;
    run.tell(point, Heard::Numbers(&select));
    Ok(select)
}

/// Exchanges choices between tokens where an edit says so, applies the edits at the indices, and puts every token's experts in
/// the order of their `strength[token, expert]` again.
fn change_choices(
    run: &Run<'_, '_, '_>,
    layer: usize,
    choices: &mut Vec<u32>,
    strength: &[f32],
    rule: &LayerRule<'_>,
) -> Result<(), ModelError> {
    let point = HookPoint::block(Site::RouterIndices, layer);
    if rule.shuffles.is_empty() && !run.edits.touches(point) {
        return Ok(());
    }
    let routed = &rule.routed;
    for seed in &rule.shuffles {
        selection::deal_anew(choices, routed.per_token, *seed);
    }
    run.edits.change_choices(point, choices, routed.experts, run.tokens)?;
    selection::put_in_order(choices, strength, routed.experts, routed.per_token);
    Ok(())
}

/// A router without logits: listeners are told that there are none, and every chosen expert weighs `1 / per_token`.
fn by_function(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    rule: &LayerRule<'_>,
) -> Result<LayerRoutes, ModelError> {
    let routed = &rule.routed;
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
    let mut choices = rule.selection.choose(&priorities, &equal, routed.experts);
    change_choices(run, layer, &mut choices, &equal, rule)?;
    let plan = planned(run, layer, &choices, routed)?;
    let share = 1.0 / routed.per_token as f32;
    let weights = run.tape.constant(Tensor::full([run.tokens.len(), routed.per_token], share));
    let weights = weights::given(run.tape, weights, &plan, layer, rule)?;
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

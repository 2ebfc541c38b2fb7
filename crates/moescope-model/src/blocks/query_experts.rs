//! Attention whose queries and output are those of chosen experts.

use std::sync::Arc;

use moescope_base::{HookPoint, Site};
use moescope_engine::{RoutePlan, Var};

use crate::ModelError;
use crate::forward::Run;
use crate::pass::Heard;
use crate::router::Selection;
use crate::variation::QueryExperts;

/// Which experts read the queries of each token, and how their answers are weighted, `[token, slot]`.
pub(super) struct Chosen {
    pub(super) plan: Arc<RoutePlan>,
    pub(super) weights: Var,
}

/// The largest logits are chosen, and a softmax over these weighs.
pub(super) fn choose(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    experts: QueryExperts,
    router: usize,
) -> Result<Chosen, ModelError> {
    let weight = run.weight(router)?;
    let logits = run.tape.linear(x, weight)?; // [token, expert]
    let logits = run.at(HookPoint::block(Site::AttnRouterLogits, layer), logits)?;
    let best = Selection::best(experts.per_token, experts.experts);
    let numbers = run.tape.value(logits).data();
    let choices = best.choose(numbers, numbers, experts.experts);
    let plan = Arc::new(RoutePlan::new(&choices, experts.experts, experts.per_token)?);
    run.tell(HookPoint::block(Site::AttnRouterIndices, layer), Heard::Routes(&plan));
    let chosen = run.tape.gather_columns(logits, plan.choices(), plan.per_token())?;
    let weights = run.tape.softmax(chosen)?;
    let weights = run.at(HookPoint::block(Site::AttnRouterWeights, layer), weights)?;
    Ok(Chosen { plan, weights })
}

/// Queries of the chosen experts, slot after slot: `[token, slot * head * head_dim]`.
pub(super) fn queries(
    run: &mut Run<'_, '_, '_>,
    x: Var,
    weight: usize,
    chosen: &Chosen,
) -> Result<Var, ModelError> {
    let weight = run.weight(weight)?;
    let rows = run.tape.expert_input(x, weight, &chosen.plan)?;
    let slots = run.tape.rows_to_slots(rows, &chosen.plan)?;
    run.forget(&[rows]);
    run.done_with(weight);
    Ok(slots)
}

/// Keys or values once for each slot, so that every query head has a key-value head: `[token, slot * head * head_dim]`.
pub(super) fn repeated(run: &mut Run<'_, '_, '_>, x: Var, slots: usize) -> Result<Var, ModelError> {
    let mut all = x;
    for _ in 1..slots {
        all = run.tape.join_heads(all, x, 1)?;
    }
    Ok(all)
}

/// What the chosen experts write of the mixed values, weighted and summed: `[token, model]`.
pub(super) fn written(
    run: &mut Run<'_, '_, '_>,
    mixed: Var,
    weight: usize,
    chosen: &Chosen,
) -> Result<Var, ModelError> {
    let rows = run.tape.slots_to_rows(mixed, &chosen.plan)?;
    let weight = run.weight(weight)?;
    let sum = run.tape.expert_output(rows, weight, chosen.weights, &chosen.plan)?;
    run.forget(&[rows]);
    run.done_with(weight);
    Ok(sum)
}

//! How much each chosen expert counts.
//!
//! The order of scoring and selection matters. Softmax scores made before the selection are shares of all
//! experts, and those of the chosen ones add up to less than 1 unless they are divided by their sum; softmax
//! scores made after it always add up to 1, and tell nothing of the experts that were left out.

use moescope_base::{HookPoint, Site};
use moescope_engine::{Mode, RoutePlan, Tape, Tensor, Var};

use super::{Selection, scores};
use crate::ModelError;
use crate::description::{Order, Routed, Router};
use crate::forward;
use crate::route_edits::LayerRule;

/// Weights of the chosen experts, `[token, slot]`.
///
/// Of the pair `[token, expert]` the first is the logits, the second the strength: the scores, or the logits again where scoring follows selection.
///
/// The slots stand as in the plan. The last step is the router's scale, so that weights need not add up to 1
/// even after a division.
pub(crate) fn weights(
    tape: &mut Tape<'_>,
    (logits, strength): (Var, Var),
    plan: &RoutePlan,
    router: &Router,
) -> Result<Var, ModelError> {
    let scored = match router.order {
        Order::ScoreThenSelect => tape.gather_columns(strength, plan.choices(), plan.per_token())?,
        Order::SelectThenScore => {
            let chosen = tape.gather_columns(strength, plan.choices(), plan.per_token())?;
            scores::scores(tape, chosen, router.score)?
        }
        Order::OneByOne => tape.sparse_mixer(strength, plan.choices(), router.tolerance as f32)?,
    };
    let weights = match router.renormalise {
        true => renormalised_by_logits(tape, scored, logits, plan, router.order)?,
        false => scored,
    };
    forward::scaled(tape, weights, router.scale)
}

/// Scores divided by their sum, by way of the logits for tokens whose chosen scores are too small for `f32`.
///
/// Routes that are forced or replayed may choose experts whose scores all underflow to 0, which no division saves. Softmax scores divided by
/// their sum are the softmax of the chosen logits, and so are sigmoids that small; for those tokens it is computed in this way.
fn renormalised_by_logits(
    tape: &mut Tape<'_>,
    scored: Var,
    logits: Var,
    plan: &RoutePlan,
    order: Order,
) -> Result<Var, ModelError> {
    let lost: Vec<usize> = match order {
        Order::ScoreThenSelect => underflowed(tape, scored, logits, plan),
        Order::SelectThenScore | Order::OneByOne => Vec::new(),
    };
    if lost.is_empty() {
        return Ok(tape.renormalise(scored)?);
    }
    let (height, slots) = (tape.value(scored).rows(), plan.per_token());
    let others: Vec<usize> = (0..height).filter(|token| lost.binary_search(token).is_err()).collect();
    let safe = tape.overwrite_rows(scored, &lost, Tensor::full([lost.len(), slots], 1.0))?;
    let divided = tape.renormalise(safe)?;
    let divided = tape.overwrite_rows(divided, &lost, Tensor::zeros([lost.len(), slots]))?;
    let chosen = tape.gather_columns(logits, plan.choices(), slots)?;
    let shares = tape.softmax(chosen)?;
    let shares = tape.overwrite_rows(shares, &others, Tensor::zeros([others.len(), slots]))?;
    Ok(tape.add(divided, shares)?)
}

/// Distance to the largest logit, or to 0, beyond which a score is as good as 0 in `f32`: `e^−80` is 2e−35.
const FAR: f32 = 80.0;

/// Tokens, in order, whose chosen scores sum to no normal number because their logits are that far down; scores that an edit made 0 are not meant.
fn underflowed(tape: &Tape<'_>, scored: Var, logits: Var, plan: &RoutePlan) -> Vec<usize> {
    let (scored, logits) = (tape.value(scored), tape.value(logits));
    let (slots, experts) = (plan.per_token(), logits.columns());
    let is_lost = |token: &usize| {
        let sum: f32 = scored.data()[token * slots..(token + 1) * slots].iter().sum();
        if sum.is_nan() || sum.abs() >= f32::MIN_POSITIVE {
            return false;
        }
        let row = &logits.data()[token * experts..(token + 1) * experts];
        let chosen = plan.choices()[token * slots..(token + 1) * slots].iter().map(|e| row[*e as usize]);
        let (top, best) = (row.iter().fold(0.0, |a: f32, b| a.max(*b)), chosen.fold(f32::MIN, f32::max));
        top - best > FAR
    };
    (0..scored.rows()).filter(is_lost).collect()
}

/// The weights `[token, slot]` with those that edits give.
///
/// # Errors
/// [`ModelError::Edit`] where weights would be divided by a sum of zero.
pub(crate) fn given(
    tape: &mut Tape<'_>,
    weights: Var,
    plan: &RoutePlan,
    layer: usize,
    rule: &LayerRule<'_>,
) -> Result<Var, ModelError> {
    let slots = plan.per_token();
    let mut weights = weights;
    for given in &rule.weights {
        let meets = |slot: &usize| {
            given.experts.contains(&plan.choices()[*slot]) && given.tokens.contains((slot / slots) as u32)
        };
        let places: Vec<usize> = (0..plan.choices().len()).filter(meets).collect();
        if places.is_empty() {
            continue;
        }
        weights = tape.overwrite_entries(weights, &places, given.weight)?;
        if given.renormalise {
            let mut tokens: Vec<usize> = places.iter().map(|slot| slot / slots).collect();
            tokens.dedup();
            weights = renormalised(tape, weights, &tokens, layer, rule.routed.router.scale)?;
        }
    }
    Ok(weights)
}

/// The weights of these tokens divided by their sum, and those of the others as they are.
///
/// The scale of the router is applied after the division, as for weights that no edit has touched.
fn renormalised(
    tape: &mut Tape<'_>,
    weights: Var,
    tokens: &[usize],
    layer: usize,
    scale: f64,
) -> Result<Var, ModelError> {
    let (height, slots) = (tape.value(weights).rows(), tape.value(weights).columns());
    let sum =
        |token: &usize| tape.value(weights).data()[token * slots..(token + 1) * slots].iter().sum::<f32>();
    if let Some(token) = tokens.iter().find(|token| sum(token) == 0.0) {
        let reason = format!("the weights of token {token} sum to 0, so they cannot be renormalised");
        return Err(ModelError::edit(HookPoint::block(Site::RouterWeights, layer), reason));
    }
    let mut touched = vec![false; height];
    tokens.iter().for_each(|token| touched[*token] = true);
    let others: Vec<usize> = (0..height).filter(|token| !touched[*token]).collect();
    // The others are given ones before the division, so that a sum of zero among them divides nothing.
    let ones = Tensor::full([others.len(), slots], 1.0);
    let divided = tape.overwrite_rows(weights, &others, ones)?;
    let divided = tape.renormalise(divided)?;
    let divided = forward::scaled(tape, divided, scale)?;
    let divided = tape.overwrite_rows(divided, &others, Tensor::zeros([others.len(), slots]))?;
    let kept = tape.overwrite_rows(weights, tokens, Tensor::zeros([tokens.len(), slots]))?;
    Ok(tape.add(kept, divided)?)
}

/// Puts the expert of larger weight first in every pair; the choice of the two went by logits, which is another order.
pub(crate) fn order_pairs(logits: &Tensor, choices: &mut [u32], tolerance: f32) {
    let mut tape = Tape::new(Mode::Inference);
    let logits = tape.constant(logits.clone());
    let weights = tape.sparse_mixer(logits, choices, tolerance).expect("two experts of each token");
    for (pair, weights) in choices.chunks_exact_mut(2).zip(tape.value(weights).data().chunks_exact(2)) {
        if weights[1] > weights[0] {
            pair.swap(0, 1);
        }
    }
}

/// The weights that these logits lead to, without edits or selection bias: `[token, expert]` → `[token, slot]`.
pub(crate) fn plain_weights(logits: &[f32], routed: &Routed, selection: &Selection) -> Vec<f32> {
    let mut tape = Tape::new(Mode::Inference);
    let rows = logits.len() / routed.experts;
    let tensor = Tensor::new([rows, routed.experts], logits.to_vec()).expect("whole rows");
    let logits = tape.constant(tensor);
    let scores = scores::scores(&mut tape, logits, routed.router.score).expect("any matrix has scores");
    let strength = match routed.router.order {
        Order::ScoreThenSelect => scores,
        Order::SelectThenScore | Order::OneByOne => logits,
    };
    let select = tape.value(strength).data();
    let choices = selection.choose(select, select, routed.experts);
    let plan = RoutePlan::new(&choices, routed.experts, routed.per_token).expect("a choice is a plan");
    let weights = weights(&mut tape, (logits, strength), &plan, &routed.router).expect("the plan fits");
    tape.value(weights).data().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Score;

    fn weigh(score: Score, order: Order, renormalise: bool) -> Vec<f32> {
        let router = Router { score, order, ..Router::learned(renormalise) };
        let routed = Routed { experts: 3, expert_width: 1, per_token: 2, router, shared: None };
        // Softmax of ln 1, ln 5, ln 4 is 0.1, 0.5, 0.4.
        plain_weights(&[0.0, 5f32.ln(), 4f32.ln()], &routed, &Selection::of(&routed))
    }

    fn close(found: &[f32], wanted: &[f32]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {wanted:?}");
    }

    #[test]
    fn chosen_scores_that_underflow_still_have_weights() {
        // Experts 1 and 2 are forced on both tokens; those of the first have scores of 0 in f32, and logits that differ by 1.
        let logits = [0.0, -500.0, -501.0, 1.0, 0.5, 0.5];
        for score in [Score::Softmax, Score::Sigmoid] {
            let mut tape = Tape::new(Mode::Inference);
            let logits: Vec<f32> = match score {
                Score::Softmax => logits.to_vec(),
                Score::Sigmoid => logits.iter().map(|l| l.min(0.0)).collect(),
            };
            let leaf = tape.constant(Tensor::new([2, 3], logits).unwrap());
            let scored = scores::scores(&mut tape, leaf, score).unwrap();
            let plan = RoutePlan::new(&[1, 2, 1, 2], 3, 2).unwrap();
            let router = Router { score, ..Router::learned(true) };
            let found = weights(&mut tape, (leaf, scored), &plan, &router).unwrap();
            close(tape.value(found).data(), &[0.731_058_6, 0.268_941_4, 0.5, 0.5]);
        }
    }

    #[test]
    fn the_variants_by_hand() {
        use Order::{ScoreThenSelect, SelectThenScore};
        close(&weigh(Score::Softmax, ScoreThenSelect, false), &[0.5, 0.4]);
        close(&weigh(Score::Softmax, ScoreThenSelect, true), &[5.0 / 9.0, 4.0 / 9.0]);
        close(&weigh(Score::Softmax, SelectThenScore, false), &[5.0 / 9.0, 4.0 / 9.0]);
        close(&weigh(Score::Sigmoid, ScoreThenSelect, false), &[5.0 / 6.0, 4.0 / 5.0]);
        let sum = 5.0 / 6.0 + 4.0 / 5.0;
        close(&weigh(Score::Sigmoid, SelectThenScore, true), &[5.0 / 6.0 / sum, 4.0 / 5.0 / sum]);
    }
}

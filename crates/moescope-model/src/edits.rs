//! Edits made ready for one pass: every one takes effect where it says, or the pass is refused.

use std::collections::BTreeMap;

use moescope_base::{
    Edit, HookPoint, RouteEdit, Site, TokenSelection, Tokens, ValueEdit, head_tokens, pattern_tokens,
};
use moescope_engine::{Mode, RoutePlan, Tape, Tensor, Var};

use crate::ModelError;
use crate::description::{Description, Order, Routed};
use crate::points;
use crate::route_edits::{self, LayerRule};
use crate::value_edits::{Place, apply};

/// The edits of one pass, by place.
///
/// Edits at one place apply in the order in which they were given, so a scale after a set scales what was set.
/// Everything that can be checked without values is checked here, before the first operation.
#[derive(Debug)]
pub(crate) struct EditBook<'a> {
    values: BTreeMap<HookPoint, Vec<(&'a TokenSelection, &'a ValueEdit)>>,
    routes: BTreeMap<usize, Vec<&'a RouteEdit>>,
}

impl<'a> EditBook<'a> {
    /// Sorts edits by place.
    ///
    /// # Errors
    /// [`ModelError::Hook`] for a point that the model lacks, [`ModelError::Edit`] for one that cannot be edited, for a layer
    /// without routes and for tokens outside the batch.
    pub(crate) fn new(
        description: &Description,
        edits: &'a [Edit],
        tokens: usize,
    ) -> Result<EditBook<'a>, ModelError> {
        let mut book = EditBook { values: BTreeMap::new(), routes: BTreeMap::new() };
        for edit in edits {
            match edit {
                Edit::Value { at, tokens: selection, change } => {
                    check_value_edit(description, *at, selection, change, tokens)?;
                    book.values.entry(*at).or_default().push((selection, change));
                }
                Edit::Route { layer, change } => {
                    route_edits::check_layer(description, *layer as usize)?;
                    book.routes.entry(*layer as usize).or_default().push(change);
                }
            }
        }
        Ok(book)
    }

    /// The rule by which tokens of this layer choose and weigh, route edits included.
    pub(crate) fn rule(
        &self,
        layer: usize,
        routed: &Routed,
        tokens: usize,
    ) -> Result<LayerRule<'a>, ModelError> {
        let edits = self.routes.get(&layer).map_or(&[][..], Vec::as_slice);
        route_edits::rule(layer, routed, edits, tokens)
    }

    /// Whether any edit changes the value at this point.
    pub(crate) fn touches(&self, point: HookPoint) -> bool {
        self.values.contains_key(&point)
    }

    /// Applies the edits at a point outside single experts.
    pub(crate) fn change(
        &self,
        tape: &mut Tape<'_>,
        point: HookPoint,
        var: Var,
        tokens: &Tokens,
    ) -> Result<Var, ModelError> {
        if !self.touches(point) {
            return Ok(var);
        }
        let shape = tape.value(var).shape();
        let (tokens, kinds): (Vec<u32>, usize) = match point.site() {
            Site::AttnScores | Site::AttnPattern => {
                (pattern_tokens(shape[0], shape[1], shape[2]).collect(), shape[1] * shape[2])
            }
            Site::AttnResult => {
                let heads = shape[0] / tokens.len();
                (head_tokens(tokens.len(), heads).collect(), heads)
            }
            _ => ((0..tokens.len() as u32).collect(), 1),
        };
        self.change_rows(tape, &Place { point, first: 0, tokens: &tokens, kinds }, var)
    }

    /// Applies the edits at a point of one expert; `var[slot_row, column]` holds all experts of the layer.
    pub(crate) fn change_expert(
        &self,
        tape: &mut Tape<'_>,
        point: HookPoint,
        var: Var,
        plan: &RoutePlan,
    ) -> Result<Var, ModelError> {
        let expert = point.expert_index().expect("an expert point names its expert");
        let (first, last) = (plan.offsets()[expert], plan.offsets()[expert + 1]);
        let tokens = &plan.row_tokens()[first..last];
        self.change_rows(tape, &Place { point, first, tokens, kinds: 1 }, var)
    }

    /// Applies the edits at a point whose numbers are not on the tape: `numbers[token, column]`.
    pub(crate) fn change_numbers(
        &self,
        point: HookPoint,
        numbers: &mut Vec<f32>,
        tokens: &Tokens,
    ) -> Result<(), ModelError> {
        if self.touches(point) {
            let mut scratch = Tape::new(Mode::Inference);
            let columns = numbers.len() / tokens.len();
            let var = scratch.constant(Tensor::new([tokens.len(), columns], std::mem::take(numbers))?);
            let var = self.change(&mut scratch, point, var, tokens)?;
            *numbers = scratch.value(var).data().to_vec();
        }
        Ok(())
    }

    /// Applies the edits at the chosen experts, `choices[token, slot]`.
    ///
    /// # Errors
    /// [`ModelError::Edit`] where what is put in is no choice: experts that exist, each once.
    pub(crate) fn change_choices(
        &self,
        point: HookPoint,
        choices: &mut Vec<u32>,
        experts: usize,
        tokens: &Tokens,
    ) -> Result<(), ModelError> {
        if !self.touches(point) {
            return Ok(());
        }
        let mut numbers = choices.iter().map(|expert| *expert as f32).collect();
        self.change_numbers(point, &mut numbers, tokens)?;
        if let Some(found) = numbers.iter().find(|n| n.fract() != 0.0 || !(0.0..experts as f32).contains(*n))
        {
            let reason = format!("{found} is no expert; wanted whole numbers from 0 to {}", experts - 1);
            return Err(ModelError::edit(point, reason));
        }
        *choices = numbers.iter().map(|expert| *expert as u32).collect();
        let slots = choices.len() / tokens.len();
        match choices.chunks_exact(slots).position(route_edits::repeats) {
            Some(token) => {
                Err(ModelError::edit(point, format!("token {token} would go to one expert twice")))
            }
            None => Ok(()),
        }
    }

    /// Applies all edits at a place, in order.
    fn change_rows(&self, tape: &mut Tape<'_>, place: &Place<'_>, var: Var) -> Result<Var, ModelError> {
        let mut var = var;
        for (selection, change) in self.values.get(&place.point).into_iter().flatten() {
            var = apply(tape, place, var, selection, change)?;
        }
        Ok(var)
    }
}

/// Refuses an edit whose place or tokens do not exist; its numbers are checked where the width is known.
fn check_value_edit(
    description: &Description,
    at: HookPoint,
    selection: &TokenSelection,
    change: &ValueEdit,
    tokens: usize,
) -> Result<(), ModelError> {
    points::check(description, at)?;
    if !at.site().editable() {
        return Err(ModelError::edit(at, read_only_reason(at.site())));
    }
    check_router_edit(description, at, change)?;
    let TokenSelection::Rows(rows) = selection else { return Ok(()) };
    if let Some(row) = rows.iter().find(|row| **row as usize >= tokens) {
        let reason = format!("token {row} was selected, and the batch has tokens 0 to {}", tokens - 1);
        return Err(ModelError::edit(at, reason));
    }
    match rows.windows(2).all(|pair| pair[0] < pair[1]) {
        true => Ok(()),
        false => Err(ModelError::edit(at, "the selected tokens are not ascending; sort them, each once")),
    }
}

/// Refuses edits of a router's values from which nothing would follow.
fn check_router_edit(description: &Description, at: HookPoint, change: &ValueEdit) -> Result<(), ModelError> {
    let scored =
        matches!(at.site(), Site::RouterIn | Site::RouterLogits | Site::RouterScores | Site::RouterSelect);
    if scored && !points::scored(description, at) {
        return Err(ModelError::edit(at, "this layer's router does not score; edit its routes instead"));
    }
    let routed = at.layer().and_then(|layer| description.feed_forward[layer].routed());
    if at.site() == Site::RouterScores && routed.is_some_and(|r| r.router.order != Order::ScoreThenSelect) {
        let reason = "this router chooses and weighs by its logits and only reports scores; edit the router logits instead";
        return Err(ModelError::edit(at, reason));
    }
    let name = match change {
        ValueEdit::Zero => "zero",
        ValueEdit::Scale { .. } => "scale",
        ValueEdit::Add { .. } => "add",
        ValueEdit::Mean => "mean",
        _ => return Ok(()),
    };
    match at.site() {
        Site::RouterIndices => {
            let reason = format!("`{name}` makes no choice of experts; wanted `set`, `patch` or `resample`");
            Err(ModelError::edit(at, reason))
        }
        _ => Ok(()),
    }
}

/// Why a site cannot be edited, and what to edit instead.
fn read_only_reason(site: Site) -> &'static str {
    match site {
        Site::Logits => "the logits are the end of the pass; edit the final norm's output instead",
        site if site.is_scale() => {
            "the denominator of a norm is worked out beside it; scale the norm's output instead"
        }
        _ => "this site is read-only; edit the logits or weights of this router instead",
    }
}

//! Edits made ready for one pass: every one takes effect where it says, or the pass is refused.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, RouteEdit, Site, TokenSelection, Tokens, ValueEdit};
use moescope_engine::{RoutePlan, Tape, Tensor, Var};

use crate::ModelError;
use crate::description::{Description, Routed};
use crate::points;
use crate::route_edits;
use crate::router::Selection;

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
                    check_value_edit(description, *at, selection, tokens)?;
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

    /// The rule by which tokens of this layer choose, route edits included.
    pub(crate) fn selection(
        &self,
        layer: usize,
        routed: &Routed,
        tokens: usize,
    ) -> Result<Selection, ModelError> {
        let edits = self.routes.get(&layer).map_or(&[][..], Vec::as_slice);
        route_edits::selection(layer, routed, edits, tokens)
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
        let Some(edits) = self.values.get(&point) else { return Ok(var) };
        let token_of_row: Vec<u32> = match point.site() {
            Site::AttnScores | Site::AttnPattern => pattern_tokens(tape.value(var).shape()),
            _ => (0..tokens.len() as u32).collect(),
        };
        self.change_rows(tape, point, var, edits, 0, &token_of_row)
    }

    /// Applies the edits at a point of one expert; `var[slot_row, column]` holds all experts of the layer.
    pub(crate) fn change_expert(
        &self,
        tape: &mut Tape<'_>,
        point: HookPoint,
        var: Var,
        plan: &RoutePlan,
    ) -> Result<Var, ModelError> {
        let Some(edits) = self.values.get(&point) else { return Ok(var) };
        let expert = point.expert_index().expect("an expert point names its expert");
        let (first, last) = (plan.offsets()[expert], plan.offsets()[expert + 1]);
        self.change_rows(tape, point, var, edits, first, &plan.row_tokens()[first..last])
    }

    /// Applies edits to the rows from `first` on, of which `token_of_row` names the tokens.
    fn change_rows(
        &self,
        tape: &mut Tape<'_>,
        point: HookPoint,
        var: Var,
        edits: &[(&TokenSelection, &ValueEdit)],
        first: usize,
        token_of_row: &[u32],
    ) -> Result<Var, ModelError> {
        let mut var = var;
        for (selection, change) in edits {
            let touched = token_of_row.iter().enumerate().filter(|(_, token)| selection.contains(**token));
            let rows: Vec<usize> = touched.map(|(row, _)| first + row).collect();
            var = apply(tape, point, var, &rows, change)?;
        }
        Ok(var)
    }
}

/// The query's token of every row of an attention pattern `[batch, head, query, key]`.
fn pattern_tokens(shape: &[usize]) -> Vec<u32> {
    let [batch, heads, queries] = [shape[0], shape[1], shape[2]];
    let rows = (0..batch * heads * queries).map(|row| row / (heads * queries) * queries + row % queries);
    rows.map(|token| token as u32).collect()
}

/// Refuses an edit whose place or tokens do not exist; its numbers are checked where the width is known.
fn check_value_edit(
    description: &Description,
    at: HookPoint,
    selection: &TokenSelection,
    tokens: usize,
) -> Result<(), ModelError> {
    points::check(description, at)?;
    if !at.site().editable() {
        return Err(ModelError::edit(at, read_only_reason(at.site())));
    }
    if at.site() == Site::RouterLogits && !points::scored(description, at) {
        return Err(ModelError::edit(at, "this layer's router does not score; edit its routes instead"));
    }
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

/// Why a site cannot be edited, and what to edit instead.
fn read_only_reason(site: Site) -> &'static str {
    match site {
        Site::Logits => "the logits are the end of the pass; edit the final norm's output instead",
        _ => "this site is read-only; edit the router logits or weights, or the routes of the layer",
    }
}

/// Applies one edit to these rows of a variable.
///
/// Set values are constants: no gradient flows through them. Scaling and adding let gradients through.
fn apply(
    tape: &mut Tape<'_>,
    point: HookPoint,
    var: Var,
    rows: &[usize],
    change: &ValueEdit,
) -> Result<Var, ModelError> {
    let width = tape.value(var).columns();
    match change {
        ValueEdit::Scale { factor } => scale(tape, var, rows, *factor),
        ValueEdit::Zero => overwrite(tape, var, rows, vec![0.0; rows.len() * width]),
        ValueEdit::Add { vector } => {
            check_vector(point, vector, width)?;
            add(tape, var, rows, vector)
        }
        ValueEdit::Set { vector } => {
            check_vector(point, vector, width)?;
            overwrite(tape, var, rows, vector.repeat(rows.len()))
        }
        ValueEdit::Patch { rows: values } => {
            if values.len() != rows.len() * width {
                let (found, count) = (values.len(), rows.len());
                let reason = format!(
                    "the patch holds {found} numbers, wanted {count} rows of {width}, one for each selected token that is here"
                );
                return Err(ModelError::edit(point, reason));
            }
            overwrite(tape, var, rows, values.clone())
        }
    }
}

/// Refuses a vector that is not as long as a row of the value.
fn check_vector(point: HookPoint, vector: &[f32], width: usize) -> Result<(), ModelError> {
    if vector.len() == width {
        return Ok(());
    }
    let reason = format!("the vector holds {} numbers, wanted {width}", vector.len());
    Err(ModelError::edit(point, reason))
}

/// Replaces the named rows by `values[row, column]`; without rows nothing is put on the tape.
fn overwrite(tape: &mut Tape<'_>, var: Var, rows: &[usize], values: Vec<f32>) -> Result<Var, ModelError> {
    if rows.is_empty() {
        return Ok(var);
    }
    let width = tape.value(var).columns();
    Ok(tape.overwrite_rows(var, rows, Tensor::new([rows.len(), width], values)?)?)
}

/// Adds one vector to each named row. The other rows get zero, which changes no value.
fn add(tape: &mut Tape<'_>, var: Var, rows: &[usize], vector: &[f32]) -> Result<Var, ModelError> {
    let mut shift = Tensor::zeros(tape.value(var).shape());
    for row in rows {
        shift.data_mut()[row * vector.len()..][..vector.len()].copy_from_slice(vector);
    }
    let shift = tape.constant(shift);
    Ok(tape.add(var, shift)?)
}

/// Multiplies the named rows by `factor` and leaves the others as they are.
fn scale(tape: &mut Tape<'_>, var: Var, rows: &[usize], factor: f32) -> Result<Var, ModelError> {
    let height = tape.value(var).rows();
    let width = tape.value(var).columns();
    let scaled = tape.scale(var, factor)?;
    if rows.len() == height {
        return Ok(scaled);
    }
    // The sum of two halves, zero where the other speaks: exact, and the gradient flows through both.
    let mut selected = vec![false; height];
    rows.iter().for_each(|row| selected[*row] = true);
    let others: Vec<usize> = (0..height).filter(|row| !selected[*row]).collect();
    let scaled = overwrite(tape, scaled, &others, vec![0.0; others.len() * width])?;
    let kept = overwrite(tape, var, rows, vec![0.0; rows.len() * width])?;
    Ok(tape.add(kept, scaled)?)
}

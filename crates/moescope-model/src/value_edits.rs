//! What value edits do to the rows of a variable.
//!
//! Every operation becomes one on the tape, so that what follows, gradients included, follows from the edited value. Means and
//! exchanges read the value as it stands when they are reached: after the edits that stand before them at the same point.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, TokenSelection, ValueEdit, mean_row};
use moescope_engine::{Tape, Tensor, Var};

use crate::ModelError;
use crate::circle::circle;

/// The rows that stand at a hook point.
pub(crate) struct Place<'p> {
    /// Where.
    pub(crate) point: HookPoint,
    /// First of its rows in the variable, which may hold those of other experts, too.
    pub(crate) first: usize,
    /// Token of each row, in order.
    pub(crate) tokens: &'p [u32],
    /// Rows that may take each other's place: those of one remainder by this number. One for all points but attention
    /// patterns, where it is heads times queries, so that only rows of the same head and query meet, and what heads add, where it is
    /// heads.
    pub(crate) kinds: usize,
}

/// Applies one edit to the selected rows of a place.
///
/// Values that are put in are constants: no gradient flows through them. Scaling and adding let gradients through.
pub(crate) fn apply(
    tape: &mut Tape<'_>,
    place: &Place<'_>,
    var: Var,
    selection: &TokenSelection,
    change: &ValueEdit,
) -> Result<Var, ModelError> {
    let width = tape.value(var).columns();
    let here: Vec<usize> =
        (0..place.tokens.len()).filter(|row| selection.contains(place.tokens[*row])).collect();
    let rows: Vec<usize> = here.iter().map(|row| place.first + row).collect();
    require_numbers(place.point, change)?;
    match change {
        ValueEdit::Scale { factor } => scale(tape, var, &rows, *factor),
        ValueEdit::Zero => overwrite(tape, var, &rows, vec![0.0; rows.len() * width]),
        ValueEdit::Add { vector } => {
            check_vector(place.point, vector, width)?;
            add(tape, var, &rows, vector)
        }
        ValueEdit::Set { vector } => {
            check_vector(place.point, vector, width)?;
            overwrite(tape, var, &rows, vector.repeat(rows.len()))
        }
        ValueEdit::Patch { rows: values } => {
            if values.len() != rows.len() * width {
                let (found, count) = (values.len(), rows.len());
                let reason = format!(
                    "the patch holds {found} numbers, wanted {count} rows of {width}, one for each selected token that is here"
                );
                return Err(ModelError::edit(place.point, reason));
            }
            overwrite(tape, var, &rows, values.clone())
        }
        ValueEdit::PatchByToken { of, rows: values } => {
            let values = by_token(place, &here, width, of, values)?;
            overwrite(tape, var, &rows, values)
        }
        ValueEdit::Mean => {
            let values = means(place, &here, rows_of(tape, place, var), width);
            overwrite(tape, var, &rows, values)
        }
        ValueEdit::Resample { seed } => {
            let values = exchanged(place, &here, rows_of(tape, place, var), width, *seed)?;
            overwrite(tape, var, &rows, values)
        }
    }
}

/// The numbers of a place, `[row, column]`.
fn rows_of<'t>(tape: &'t Tape<'_>, place: &Place<'_>, var: Var) -> &'t [f32] {
    let width = tape.value(var).columns();
    &tape.value(var).data()[place.first * width..(place.first + place.tokens.len()) * width]
}

/// The given row of the token of each row in `here`; of several rows of one token, the first comes first.
fn by_token(
    place: &Place<'_>,
    here: &[usize],
    width: usize,
    of: &[u32],
    values: &[f32],
) -> Result<Vec<f32>, ModelError> {
    if values.len() != of.len() * width {
        let (found, count) = (values.len(), of.len());
        let reason =
            format!("the patch holds {found} numbers for {count} rows, and a row here has {width} numbers");
        return Err(ModelError::edit(place.point, reason));
    }
    let mut given: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    of.iter().enumerate().rev().for_each(|(row, token)| given.entry(*token).or_default().push(row));
    let mut out = Vec::with_capacity(here.len() * width);
    for row in here {
        let token = place.tokens[*row];
        let Some(row) = given.get_mut(&token).and_then(Vec::pop) else {
            let reason = format!(
                "token {token} is here, and the patch has no row for it; replay the routes of the recorded run, too, or select \
                 tokens that it has"
            );
            return Err(ModelError::edit(place.point, reason));
        };
        out.extend(&values[row * width..(row + 1) * width]);
    }
    Ok(out)
}

/// The mean row for each row in `here`, over all rows of its kind.
fn means(place: &Place<'_>, here: &[usize], numbers: &[f32], width: usize) -> Vec<f32> {
    if place.kinds == 1 {
        return if here.is_empty() { Vec::new() } else { mean_row(numbers, width).repeat(here.len()) };
    }
    let mut known: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    let mean = |kind: usize| {
        let rows = (kind..place.tokens.len()).step_by(place.kinds);
        let alike: Vec<f32> =
            rows.flat_map(|row| &numbers[row * width..(row + 1) * width]).copied().collect();
        mean_row(&alike, width)
    };
    here.iter()
        .flat_map(|row| {
            let kind = row % place.kinds;
            known.entry(kind).or_insert_with(|| mean(kind)).clone()
        })
        .collect()
}

/// The row that each row in `here` takes: that of the next in a random circle of all rows of its kind.
fn exchanged(
    place: &Place<'_>,
    here: &[usize],
    numbers: &[f32],
    width: usize,
    seed: u64,
) -> Result<Vec<f32>, ModelError> {
    let members = place.tokens.len() / place.kinds;
    if members < 2 && !here.is_empty() {
        let what = if place.kinds == 1 { "token" } else { "sequence" };
        let reason = format!("there is one {what} here, so there is no other to take a vector from");
        return Err(ModelError::edit(place.point, reason));
    }
    let next = circle(seed, members);
    let from = |row: &usize| next[row / place.kinds] * place.kinds + row % place.kinds;
    Ok(here.iter().map(from).flat_map(|row| &numbers[row * width..(row + 1) * width]).copied().collect())
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

/// Refuses an edit by what is not a number, or is infinite where that could only make one that is not.
fn require_numbers(point: HookPoint, change: &ValueEdit) -> Result<(), ModelError> {
    let (numbers, allowed): (&[f32], fn(&f32) -> bool) = match change {
        ValueEdit::Scale { factor } => (std::slice::from_ref(factor), |x| x.is_finite()),
        ValueEdit::Add { vector } => (vector, |x| x.is_finite()),
        ValueEdit::Set { vector } => (vector, |x| !x.is_nan()),
        ValueEdit::Patch { rows } | ValueEdit::PatchByToken { rows, .. } => (rows, |x| !x.is_nan()),
        ValueEdit::Zero | ValueEdit::Mean | ValueEdit::Resample { .. } => return Ok(()),
    };
    match numbers.iter().find(|number| !allowed(number)) {
        Some(odd) => Err(ModelError::edit(point, format!("it brings in {odd}, wanted finite numbers"))),
        None => Ok(()),
    }
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

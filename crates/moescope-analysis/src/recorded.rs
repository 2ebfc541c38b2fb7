//! Reading of recorded values.
//!
//! A point that was not recorded, or holds other numbers than those that are wanted, is an error that names it: nothing is read as zero.

use moescope_base::{HookPoint, Observation, Value};

use crate::AnalysisError;

/// A recorded value.
///
/// # Errors
/// If the point was not recorded.
pub(crate) fn value(seen: &Observation, point: HookPoint) -> Result<&Value, AnalysisError> {
    seen.values.get(&point).ok_or(AnalysisError::NotRecorded { point })
}

/// The numbers of a recorded value.
///
/// # Errors
/// If the point was not recorded, or holds whole numbers.
pub(crate) fn real(seen: &Observation, point: HookPoint) -> Result<&[f32], AnalysisError> {
    value(seen, point)?.real().ok_or(AnalysisError::NotRecorded { point })
}

/// The vector of a token at a point that all tokens have.
///
/// # Errors
/// If the point was not recorded, or holds whole numbers.
pub(crate) fn vector(seen: &Observation, point: HookPoint, token: usize) -> Result<&[f32], AnalysisError> {
    let width = value(seen, point)?.columns();
    Ok(&real(seen, point)?[token * width..(token + 1) * width])
}

/// The vector of a token at a point that only some tokens have, such as what an expert adds; none if this one has not.
///
/// # Errors
/// If the point was not recorded, or holds whole numbers.
pub(crate) fn vector_if_here(
    seen: &Observation,
    point: HookPoint,
    token: usize,
) -> Result<Option<&[f32]>, AnalysisError> {
    let value = value(seen, point)?;
    let place = value.rows().unwrap_or(&[]).iter().position(|row| *row as usize == token);
    let (vectors, width) = (real(seen, point)?, value.columns());
    Ok(place.map(|place| &vectors[place * width..(place + 1) * width]))
}

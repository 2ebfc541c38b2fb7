//! Checks of inputs that instruments share.

use crate::AnalysisError;
use crate::statistics::LEAST_UNITS;

/// Refuses fewer documents than an interval over documents needs, see [`LEAST_UNITS`].
pub(crate) fn documents(method: &'static str, found: usize) -> Result<(), AnalysisError> {
    at_least(method, "documents", found, LEAST_UNITS)
}

/// Refuses fewer than `wanted` of what `unit` counts.
pub(crate) fn at_least(
    method: &'static str,
    unit: &'static str,
    found: usize,
    wanted: usize,
) -> Result<(), AnalysisError> {
    if found >= wanted { Ok(()) } else { Err(AnalysisError::TooFew { method, unit, found, wanted }) }
}

/// Refuses an input whose length is not `wanted`.
pub(crate) fn same_length(
    method: &'static str,
    what: &'static str,
    found: usize,
    wanted: usize,
) -> Result<(), AnalysisError> {
    if found == wanted { Ok(()) } else { Err(AnalysisError::Length { method, what, found, wanted }) }
}

/// Refuses an entry that is infinite or no number.
pub(crate) fn finite(method: &'static str, values: &[f64]) -> Result<(), AnalysisError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(AnalysisError::NotFinite { method, index, value: values[index] }),
        None => Ok(()),
    }
}

/// Refuses an argument for which `holds` is false.
pub(crate) fn in_range(
    method: &'static str,
    what: &'static str,
    found: impl ToString,
    holds: bool,
    wanted: &str,
) -> Result<(), AnalysisError> {
    if holds {
        return Ok(());
    }
    Err(AnalysisError::OutOfRange { method, what, found: found.to_string(), wanted: wanted.to_owned() })
}

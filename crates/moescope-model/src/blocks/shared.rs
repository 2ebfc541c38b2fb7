//! The expert that all tokens of a routed layer share.

use moescope_base::{HookPoint, Site};
use moescope_engine::Var;

use super::dense::{Sites, dense};
use crate::ModelError;
use crate::forward::Run;
use crate::parameters::SharedIndex;

const SITES: Sites = Sites { gate: Site::SharedGate, up: Site::SharedPre, hidden: Site::SharedPost };

/// What the shared expert adds to the chosen ones: `[token, model]` → `[token, model]`.
pub(super) fn shared(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    index: SharedIndex,
) -> Result<Var, ModelError> {
    let output = dense(run, layer, x, index.hidden, &SITES, None)?;
    let output = run.at(HookPoint::block(Site::SharedOut, layer), output)?;
    let Some(place) = index.weight else { return Ok(output) };
    let read = run.weight(place)?;
    let weight = run.tape.linear(x, read)?; // [token, 1]
    let weight = run.tape.sigmoid(weight)?;
    let weight = run.at(HookPoint::block(Site::SharedWeight, layer), weight)?;
    Ok(run.tape.scale_rows(output, weight)?)
}

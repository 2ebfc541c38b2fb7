//! The feed-forward layer that every token passes through.

use moescope_base::{HookPoint, Site};
use moescope_engine::Var;

use crate::ModelError;
use crate::forward::Run;

/// SwiGLU, `[token, model]` → `[token, model]`; with `active`, each token keeps only its neurons of largest magnitude.
pub(crate) fn dense(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    active: Option<usize>,
) -> Result<Var, ModelError> {
    let index = run.model.layout().blocks[layer];
    let weight = run.weight(index.gate);
    let gate = run.tape.linear(x, weight)?; // [token, neuron]
    let gate = run.at(HookPoint::block(Site::MlpPre, layer), gate)?;
    let weight = run.weight(index.up);
    let up = run.tape.linear(x, weight)?;
    let up = run.at(HookPoint::block(Site::MlpPreLinear, layer), up)?;
    let mut hidden = run.tape.swiglu(gate, up)?;
    if let Some(active) = active {
        hidden = run.tape.top_k_activation(hidden, active)?;
    }
    let hidden = run.at(HookPoint::block(Site::MlpPost, layer), hidden)?;
    let weight = run.weight(index.down);
    let output = run.tape.linear(hidden, weight)?;
    run.forget(&[gate, up, hidden]);
    Ok(output)
}

//! The feed-forward layer that every token passes through.

use moescope_base::{HookPoint, Site};
use moescope_engine::Var;

use super::neurons::neurons;
use crate::ModelError;
use crate::forward::Run;
use crate::parameters::HiddenIndex;

/// Where the values of a layer of neurons are met.
pub(super) struct Sites {
    pub(super) gate: Site,
    pub(super) up: Site,
    pub(super) hidden: Site,
}

/// Sites of a dense layer.
pub(super) const DENSE: Sites = Sites { gate: Site::MlpPre, up: Site::MlpPreLinear, hidden: Site::MlpPost };

/// Neurons between two products, `[token, model]` → `[token, model]`; with `active`, each token keeps only its neurons of largest
/// magnitude.
pub(super) fn dense(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    index: HiddenIndex,
    sites: &Sites,
    active: Option<usize>,
) -> Result<Var, ModelError> {
    let gate = run.linear(x, index.gate)?; // [token, neuron]
    let gate = run.at(HookPoint::block(sites.gate, layer), gate)?;
    let up = match index.up {
        Some(up) => {
            let up = run.linear(x, up)?;
            Some(run.at(HookPoint::block(sites.up, layer), up)?)
        }
        None => None,
    };
    let mut hidden = neurons(run.tape, gate, up, run.model.description().variation.neuron)?;
    if let Some(active) = active {
        hidden = run.tape.top_k_activation(hidden, active)?;
    }
    let hidden = run.at(HookPoint::block(sites.hidden, layer), hidden)?;
    let output = run.linear(hidden, index.down)?;
    run.forget(&[gate, hidden]);
    up.into_iter().for_each(|up| run.forget(&[up]));
    Ok(output)
}

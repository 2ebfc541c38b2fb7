//! What a neuron, or an expert as a whole, does at every token that reaches it.

use moescope_base::{HookPoint, Request};

use super::bank::{Bank, router_points, value};
use super::choice::Chosen;
use crate::AnalysisError;
use crate::instrument::Material;

/// The tokens that reach the neurons of a bank, and what these do there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) bank: Bank,
    /// Places in the text, ascending.
    pub(super) tokens: Vec<u32>,
    /// Weight of the expert at each of these, as applied; 1 in a dense layer.
    pub(super) weights: Vec<f64>,
    /// The neurons, and last the expert as a whole.
    pub(super) units: Vec<Unit>,
}

/// One neuron, or an expert as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// None is the expert as a whole.
    pub(super) neuron: Option<usize>,
    /// Its activation at each token that reaches it; of an expert, the length of what it adds.
    pub(super) values: Vec<f32>,
    /// Whether its gate is above 0 and the activation not 0; of an expert always.
    pub(super) active: Vec<bool>,
}

/// The chosen neurons of a layer over the whole text; one pass for each batch.
///
/// # Errors
/// If the subject cannot answer or leaves out a value.
pub(super) fn seen(
    material: &mut Material<'_>,
    layer: usize,
    chosen: &[Chosen],
) -> Result<Vec<Seen>, AnalysisError> {
    let shape = material.subject.shape().clone();
    let banks = chosen.iter().map(|chosen| chosen.bank);
    let points: Vec<HookPoint> =
        banks.flat_map(|bank| bank.points()).chain(router_points(&shape, layer)).collect();
    let mut found: Vec<Seen> = chosen.iter().map(nothing_yet).collect();
    let mut before = 0;
    for (tokens, _) in &material.batches {
        let pass = material.subject.run(&Request::recording(tokens, &points))?;
        for seen in &mut found {
            let reached = seen.bank.reached(&pass.values, tokens.len())?;
            seen.tokens.extend(reached.iter().map(|(row, _)| before + row));
            seen.weights.extend(reached.iter().map(|(_, weight)| weight));
            let [post, gate] = [seen.bank.post(), seen.bank.gate()].map(|point| value(&pass.values, point));
            let (post, gate) = (post?, gate?);
            let width = post.columns().max(1);
            let (post, gate) = (post.real().unwrap_or_default(), gate.real().unwrap_or_default());
            for unit in &mut seen.units {
                let Some(neuron) = unit.neuron else { continue };
                let column = |numbers: &[f32]| numbers.iter().skip(neuron).step_by(width).copied().collect();
                let (post, gate): (Vec<f32>, Vec<f32>) = (column(post), column(gate));
                unit.active.extend(post.iter().zip(&gate).map(|(post, gate)| *gate > 0.0 && *post != 0.0));
                unit.values.extend(post);
            }
            if let Some(point) = seen.bank.adds() {
                let added = value(&pass.values, point)?;
                let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
                let rows = added.real().unwrap_or_default().chunks_exact(added.columns().max(1));
                let whole = seen.units.last_mut().expect("an expert is itself the last of its units");
                whole.active.extend(rows.clone().map(|_| true));
                whole.values.extend(rows.map(length));
            }
        }
        before += tokens.len() as u32;
    }
    Ok(found)
}

/// A bank of which no token has been seen.
fn nothing_yet(chosen: &Chosen) -> Seen {
    let unit = |neuron| Unit { neuron, values: Vec::new(), active: Vec::new() };
    let neurons = chosen.neurons.iter().map(|neuron| unit(Some(*neuron)));
    let units = neurons.chain(chosen.bank.adds().map(|_| unit(None))).collect();
    Seen { bank: chosen.bank, tokens: Vec::new(), weights: Vec::new(), units }
}

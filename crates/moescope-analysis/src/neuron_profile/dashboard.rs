//! Everything that is told of one neuron, or of one expert as a whole.

use moescope_base::Seed;
use rayon::prelude::*;

use super::bank::{Bank, lengths};
use super::choice::chosen;
use super::domains::{Domains, Strongest};
use super::promoted::promoted;
use super::share::Parts;
use super::telling::{Known, Trial};
use super::texts::{Text, strongest};
use super::unit::{Seen, Unit, seen};
use super::{NAMED, TEXTS};
use crate::AnalysisError;
use crate::instrument::Material;
use crate::statistics::{Bootstrap, Resampling};

/// What is told of one neuron, or of one expert as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dashboard {
    pub(super) bank: Bank,
    /// None is the expert as a whole.
    pub(super) neuron: Option<usize>,
    /// Share of the tokens that reach it at which its gate is above 0 and its activation not 0; of an expert, share of all tokens.
    pub(super) density: Bootstrap,
    /// Mean length of what it adds to the stream at a token that reaches it.
    pub(super) write: Bootstrap,
    /// The tokens by which it is known.
    pub(super) known: Known,
    /// Where it is strongest; none with one domain.
    pub(super) domain: Option<Strongest>,
    /// Ids of the tokens that it makes likelier.
    pub(super) promoted: Vec<u32>,
    /// The strongest first.
    pub(super) texts: Vec<Strong>,
}

/// A place at which a neuron is strong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strong {
    /// In the text.
    pub(super) token: usize,
    /// The activation there; of an expert, the length of what it adds.
    pub(super) value: f32,
}

/// What is shared by all dashboards.
pub(super) struct Setting {
    pub(super) text: Text,
    /// Draws behind each null.
    pub(super) draws: usize,
    pub(super) seed: Seed,
    pub(super) resampling: Resampling,
}

/// The dashboards of a layer.
///
/// # Errors
/// If the subject cannot answer or does not show its weights.
pub(super) fn dashboards(
    material: &mut Material<'_>,
    layer: usize,
    setting: &Setting,
) -> Result<Vec<Dashboard>, AnalysisError> {
    let chosen = chosen(material, layer)?;
    let mut found = Vec::new();
    for seen in seen(material, layer, &chosen)? {
        if seen.tokens.is_empty() {
            continue; // of these experts no token says anything
        }
        let down = seen.bank.down(material)?;
        let lengths = lengths(&down);
        let sign = |unit: &Unit| unit.values.iter().map(|value| f64::from(*value)).sum();
        let signs: Vec<(usize, f64)> =
            seen.units.iter().filter_map(|unit| Some((unit.neuron?, sign(unit)))).collect();
        let promoted = promoted(material, &down, &signs, NAMED)?;
        let mut of_bank = of_bank(&seen, &lengths, setting)?;
        of_bank.iter_mut().zip(promoted).for_each(|(dashboard, promoted)| dashboard.promoted = promoted);
        found.extend(of_bank);
    }
    Ok(found)
}

/// The dashboards of one bank, without what its neurons promote.
fn of_bank(seen: &Seen, lengths: &[f64], setting: &Setting) -> Result<Vec<Dashboard>, AnalysisError> {
    let text = &setting.text;
    let at = |token: &u32| *token as usize;
    let documents: Vec<u32> = seen.tokens.iter().map(|token| text.documents[at(token)]).collect();
    let ids: Vec<u32> = seen.tokens.iter().map(|token| text.ids[at(token)]).collect();
    // Of the layer alone, so that the name of an expert decides nothing.
    let seed = setting.seed.index(seen.bank.layer as u64);
    let trial = Trial::new(&ids, &documents, setting.draws, seed.child("tokens"));
    let domains = Domains::new(&text.documents, &text.domains, setting.draws, seed.child("domains"));
    let values: Vec<&[f32]> = seen.units.iter().map(|unit| unit.values.as_slice()).collect();
    let known = trial.known(&values, NAMED);
    let dashboard = |(unit, known): (&Unit, &Known)| {
        let size = || unit.values.iter().map(|value| f64::from(value.abs()));
        let density = match unit.neuron {
            Some(_) => Parts::new(&documents, unit.active.iter().map(|active| f64::from(u8::from(*active)))),
            None => everywhere(text, &seen.tokens, seen.tokens.iter().map(|_| 1.0)),
        };
        let write = match unit.neuron {
            Some(neuron) => {
                let applied = size().zip(&seen.weights).map(|(size, weight)| size * weight.abs());
                Parts::new(&documents, applied.map(|applied| applied * lengths[neuron]))
            }
            None => Parts::new(&documents, size()),
        };
        let strong = |row: usize| Strong { token: at(&seen.tokens[row]), value: unit.values[row] };
        let sizes = everywhere(text, &seen.tokens, size());
        Ok(Dashboard {
            bank: seen.bank,
            neuron: unit.neuron,
            density: density.interval(setting.resampling)?,
            write: write.interval(setting.resampling)?,
            known: known.clone(),
            domain: domains.as_ref().and_then(|domains| domains.strongest(&sizes)),
            promoted: Vec::new(),
            texts: strongest(text, &seen.tokens, &unit.values, TEXTS).into_iter().map(strong).collect(),
        })
    };
    seen.units.par_iter().zip(&known).map(dashboard).collect()
}

/// A number for each of these tokens, and 0 for all others of the text.
fn everywhere(text: &Text, tokens: &[u32], numbers: impl Iterator<Item = f64>) -> Parts {
    let mut all = vec![0.0; text.ids.len()];
    tokens.iter().zip(numbers).for_each(|(token, number)| all[*token as usize] = number);
    Parts::new(&text.documents, all.into_iter())
}

//! Ablation: what the model loses without single heads, neurons, experts and layers, and whether it matters how they are taken out.

mod components;
mod effects;
mod instrument;
mod tables;
#[cfg(test)]
mod tests;

use moescope_base::{HookPoint, Site, SubjectShape};

pub use instrument::Ablation;

const METHOD: &str = "ablation";

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 32;
/// Heads, at most, drawn where there are more.
const HEADS: usize = 32;
/// Experts, at most: those with the most tokens, as many of each layer.
const EXPERTS: usize = 24;
/// Feed-forward layers, at most, evenly spaced.
const LAYERS: usize = 8;
/// Banks of neurons, at most, one of each of some layers.
const BANKS: usize = 3;
/// Neurons of a bank, at most: those that write most.
const NEURONS: usize = 4;

/// Values that the instrument looks at in one pass, of a layer with heads.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    (0..shape.layers().min(1)).map(|layer| HookPoint::block(Site::AttnZ, layer)).collect()
}

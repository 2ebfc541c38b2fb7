//! Pruning: what is left of a model when ever more experts, or neurons within experts, go by one criterion or another.

mod curve;
mod instrument;
mod neurons;
mod scores;
#[cfg(test)]
mod tests;

pub use curve::{Pruned, Way, pruning_curves};
pub use instrument::ExpertPruning;
pub use neurons::{NeuronCriterion, PrunedNeurons, neuron_pruning};
pub use scores::Criterion;

const METHOD: &str = "expert pruning";

/// Shares of the experts of a layer, or of the neurons of an expert, that go.
pub const SHARES: [f64; 4] = [0.125, 0.25, 0.5, 0.75];
/// Random removals behind each null.
pub const RANDOM: usize = 5;
/// Experts up to which single knock-outs decide an order, too: they cost a pass each.
pub const MOST: usize = 128;
/// Layers whose neurons are pruned, at most; more are taken in even steps.
pub const NEURON_LAYERS: usize = 4;

//! Pruning: what is left of a model when ever more experts, or neurons within experts, go by one criterion or another.
//!
//! An expert can go if the loss says so. What costs a pass for each expert can be guessed from cheaper numbers: how often it is chosen, with what
//! weight, how much it adds. Each guess is an order of the experts of a layer; as many are taken out of every layer by each, and as many at
//! random, which is what every order has to beat.
//!
//! - The order is decided on every second document and judged on the others, so that no criterion is praised for what it was shown.
//! - Two ways of taking out: the router chooses among those that are left, as after deleting its rows, or the answer is missing and nothing is
//!   renormalised. Orders that differ by the way say that the router's second choice makes up for the first.
//! - Within experts, neurons go by the size of their weights or by what they add.
//!
//! What single experts are worth, one by one and with intervals, is the instrument `expert-importance`; here are the curves of many criteria.

mod curve;
mod gives;
mod instrument;
mod neurons;
mod scores;
#[cfg(test)]
mod tests;

pub use curve::{Pruned, Way, pruning_curves};
pub use instrument::ExpertPruning;
pub use neurons::{NeuronCriterion, PrunedNeurons, neuron_pruning};
pub use scores::Criterion;

/// Its name in messages and seeds.
const METHOD: &str = "expert pruning";

/// Shares of the experts of a layer, or of the neurons of an expert, that go.
pub const SHARES: [f64; 4] = [0.125, 0.25, 0.5, 0.75];
/// Random removals behind each null.
pub const RANDOM: usize = 5;
/// Experts up to which single knock-outs decide an order, too: they cost a pass each.
pub const MOST: usize = 128;
/// Layers whose neurons are pruned, at most; more are taken in even steps.
pub const NEURON_LAYERS: usize = 4;

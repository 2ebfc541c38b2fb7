//! Merging experts: whether two of them lie in one basin of the loss, and what a model loses with ever more of them merged.

mod barrier;
mod curve;
mod grouping;
mod instrument;
mod layer;
#[cfg(test)]
mod tests;

pub use barrier::{ALPHAS, Barrier, PairKind, barriers};
pub use curve::{MergePoint, Way, merging_curve};
pub use instrument::ExpertMerging;

const METHOD: &str = "expert merging";

/// Layers whose experts are merged, at most; more are taken in even steps.
pub const LAYERS: usize = 4;
/// Experts of a layer that may be merged, at most; more are drawn at random, and the others stay as they are.
pub const CANDIDATES: usize = 32;
/// Random pairs of a layer behind the null of a barrier.
pub const RANDOM_PAIRS: usize = 3;
/// Random groupings behind the null of the curve.
pub const RANDOM_GROUPINGS: usize = 2;
/// Neurons of an expert that look for a partner where similarity is measured, at most.
const SAMPLED: usize = 32;

//! Merging experts: whether two of them lie in one basin of the loss, and what a model loses with ever more of them merged.
//!
//! Two experts of a layer can be merged if what lies between them in weight space is as good as they are. The order of the neurons of an expert
//! means nothing, so a straight line between two experts is meaningful only once their neurons are matched; for one hidden layer the best
//! matching of weights is a single assignment. Three things are measured:
//!
//! - the barrier, as it is defined for whole networks: how far the loss rises above the straight line between its ends;
//! - the cost of a merged pair: the loss with both experts half and half, minus that of the model as it is;
//! - the curve: groups of experts that are most alike become one each, ever more of them, in all looked-at layers at once.
//!
//! A barrier of zero does not say that experts can be merged: where two experts differ, each end of the line is bad for the tokens of one of
//! them, and the middle may be no worse than that. Where the cost is zero as well, they can.
//!
//! The model is run with other weights in the place of its own (see [`moescope_base::Parameters::replace`]), and is as it was afterwards.

mod barrier;
mod curve;
mod gives;
mod grouping;
mod instrument;
mod layer;
#[cfg(test)]
mod tests;

pub use barrier::{ALPHAS, Barrier, PairKind, barriers};
pub use curve::{MergePoint, Way, merging_curve};
pub use instrument::ExpertMerging;

/// Its name in messages and seeds.
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

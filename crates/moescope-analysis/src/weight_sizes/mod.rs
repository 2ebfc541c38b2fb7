//! How large the matrices of experts are and how many directions they use, and whether large experts answer more and are chosen more often.

mod gives;
mod instrument;
mod sizes;
mod table;
#[cfg(test)]
mod tests;
mod usage;

pub use instrument::ExpertWeightSizes;
pub use sizes::{ExpertSizes, LayerSizes, MatrixSize, MatrixSummary, expert_sizes};
pub use table::{by_expert_table, by_layer_table, relation_table};
pub use usage::{Relation, Usage, relations};

const METHOD: &str = "expert weights";

/// Layers that are looked at, at most, evenly spaced.
const LAYERS: usize = 8;

/// Neurons whose singular values stand for a matrix, at most: of wider experts so many are drawn, the same of each.
const NEURONS: usize = 256;

/// Gaussian matrices behind the null of ranks and spectral norms, at most.
const RANDOM: usize = 30;

/// Sequences whose answers are measured, at most; of as many documents as there are.
const SEQUENCES: usize = 64;

//! Profiles of single paths: by which tokens each is known, what is predicted there and how well, and whether a path keeps to fewer things than
//! the experts that it passes.

mod instrument;
mod loss;
mod predictions;
mod profile;
mod purity;
mod tables;
#[cfg(test)]
mod tests;
mod walks;

pub use instrument::PathProfile;
pub(crate) use predictions::Predictions;

const METHOD: &str = "path profile";

/// Routed layers that a path is made of, at most.
const LAYERS: usize = 5;
/// Paths that get a profile, at most: the most used ones.
const PATHS: usize = 40;
/// Tokens that a path must have.
const FEWEST: usize = 16;
/// Documents that they must come from.
const DOCUMENTS: usize = 8;
/// Tokens that are named for each path.
const NAMED: usize = 5;
/// Texts of each path.
const TEXTS: usize = 3;

//! Profiles of single paths: by which tokens each is known, what is predicted there and how well, and whether a path keeps to fewer things than
//! the experts that it passes.
//!
//! A small example. Two layers of two experts; the first sends the words of number to expert 0, the second those that end a sentence. The words on
//! the path 0 → 0 are numbers at the end of a sentence: fewer things than either expert gets, though neither layer has looked at what the other did.
//! So a path that is purer than its experts is no sign of experts that work together; it says what a reader may expect of a token that is met on
//! this path. Whether the second layer looks at the choice of the first is what the instrument `paths` asks, with the token given.

mod gives;
mod instrument;
mod loss;
mod profile;
mod purity;
mod tables;
#[cfg(test)]
mod tests;
mod walks;

pub use instrument::PathProfile;

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

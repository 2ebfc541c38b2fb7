//! Superposition: whether features share dimensions, in the stream and within experts.

mod directions;
mod geometry;
mod gives;
mod held;
mod instrument;
mod place;
mod tables;
#[cfg(test)]
mod tests;

pub use instrument::Superposition;

const METHOD: &str = "superposition";
/// Layers that are looked at, at most, evenly spaced.
const LAYERS: usize = 6;
/// Experts of a layer that are looked at, at most: those with the most tokens.
const EXPERTS: usize = 4;
/// Tokens that vectors are looked at on.
const TOKENS: usize = 5000;
/// Features of a place, at most: the most frequent token ids.
const FEATURES: usize = 48;
/// Features below which a place is left out.
const FEWEST: usize = 4;
/// Replicates behind each interval, at most: each works out all products of directions anew.
const REPLICATES: usize = 200;
/// Deals of the documents into parts, over which products are averaged.
const DEALS: usize = 8;
/// Draws of random directions.
const DRAWS: usize = 20;

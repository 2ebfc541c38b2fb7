//! What single experts answer: how alike they are within a layer, and how many dimensions they fill beside their layer.
//!
//! A router sends each token to few experts, so that two of them share few tokens and those are chosen. Here the experts of a layer are all made to answer
//! the same tokens, in passes of their own that fix the routes of this layer alone. What they read is then what they always read, since a layer's own
//! routes change nothing before it; but most of these tokens a router would have sent elsewhere. What is compared is the map that an expert has
//! become, on the text as a whole, not what it adds where it is used.
//!
//! - `answers`: the tokens that are asked about, and the passes.
//! - `likeness`: pairs of experts by the six measures of [`Measure`](crate::similarity::Measure).
//! - `dimensions`: inputs and answers of the tokens that each expert was sent by the router itself.

pub(crate) mod answers;
mod dimensions;
mod gives;
mod instrument;
mod likeness;
#[cfg(test)]
mod tests;

pub use answers::looked_at;
pub use dimensions::ExpertDimensions;
pub use instrument::ExpertRepresentation;
pub(crate) use likeness::varies;
pub use likeness::{ExpertPair, expert_pairs};

/// Its name in errors and seeds.
const METHOD: &str = "representation of experts";

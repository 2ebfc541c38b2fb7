//! Sparse dictionaries as an instrument: what they explain of the stream, of what a layer adds and of one expert, at equal size, and whether
//! their features are found again in other documents.
//!
//! `moescope dictionary` learns one dictionary for keeps; here small ones are learned to be compared. At each site the documents are dealt
//! into three parts. Two dictionaries learn from one part each, with other beginnings, and the third part judges both. The same is done with
//! Gaussian rows of the same mean and covariance, in which there are no features: whatever a dictionary explains of those, and whatever two
//! of them share, follows from which coordinates vary together.

#[cfg(test)]
mod by_hand;
mod gives;
mod instrument;
mod learned;
mod letters;
mod losses;
mod report;
pub(crate) mod sites;
#[cfg(test)]
mod tests;

pub use instrument::SparseDictionaries;
pub use letters::first_letter;
pub use sites::{kept, looked_at};

/// The name in errors.
const METHOD: &str = "sparse dictionaries";

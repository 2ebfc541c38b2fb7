//! How many directions are in use, and how much of them is for routing.
//!
//! Two looks at the vectors of a model. Their spectrum: the effective rank and the participation ratio of the stream, of what a layer adds and of
//! a single expert's answers, at equal numbers of rows. And the split of a router's input into what the router can see, the row space of its
//! weights, and what it cannot: control and content.

mod control;
mod gives;
mod instrument;

pub use control::{ControlShare, control_share};
pub use instrument::StreamSpectrum;
pub(crate) use instrument::{Directions, directions};

/// The name in errors.
const METHOD: &str = "spectrum of the stream";

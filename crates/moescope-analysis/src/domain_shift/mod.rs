//! Noise and shift: what becomes of loss, routes and load when the text is disturbed, and how the load of a domain differs from that of
//! the others.
//!
//! A route may read the token, what stands around it, or both. Disturbing some tokens and leaving others tells them apart: tokens that were
//! not touched, but stand among touched ones, lose what routes and predictions took from their context and nothing else. They are the control
//! of those that were touched, in the same documents and passes.
//!
//! - Exchanged tokens keep the vocabulary of the document and lose its order.
//! - Replaced tokens keep the vocabulary of the text and lose that of the document.
//! - Noise on embeddings keeps every token, and moves it off the points that the model knows.
//!
//! Beside these, which no corpus contains, stands the natural shift: the load that a domain gives, against that of the mixture without it.

mod disturbance;
mod domains;
mod gives;
mod instrument;
mod shift;
#[cfg(test)]
mod tests;

pub use disturbance::Disturbance;
pub use domains::{DomainLoad, domain_loads};
pub use instrument::DomainShift;
pub(crate) use shift::total_variation;
pub use shift::{RouteShift, Shift, Tokens, shift};

/// Its name in messages and seeds.
const METHOD: &str = "domain shift";

/// Layers whose routes are compared, at most; more are taken in even steps.
pub const LAYERS: usize = 8;

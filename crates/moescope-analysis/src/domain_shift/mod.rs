//! Noise and shift: what becomes of loss, routes and load when the text is disturbed, and how the load of a domain differs from that of
//! the others.

mod disturbance;
mod domains;
mod instrument;
mod shift;
#[cfg(test)]
mod tests;

pub use disturbance::Disturbance;
pub use domains::{DomainLoad, domain_loads};
pub use instrument::DomainShift;
pub use shift::{RouteShift, Shift, Tokens, shift};

const METHOD: &str = "domain shift";

/// Layers whose routes are compared, at most; more are taken in even steps.
pub const LAYERS: usize = 8;

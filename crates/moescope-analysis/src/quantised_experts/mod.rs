//! Rounding: what a model loses when its experts, its routers or its attention have few bits for each weight.

mod instrument;
mod parts;
mod rounding;
#[cfg(test)]
mod tests;
mod usage;

pub use instrument::QuantisedExperts;
pub use parts::{Part, Rounded, rounded_parts};
pub use rounding::{Grouping, round};
pub use usage::{UsageEffect, usage_effect};

const METHOD: &str = "quantised experts";

/// Bits for each weight.
pub const BITS: [u32; 5] = [8, 6, 4, 3, 2];
/// Share of the experts of a layer that count as the most or the least used.
pub const QUARTER: f64 = 0.25;
/// Experts that are rounded alone, at most; more are drawn at random.
pub const ALONE: usize = 32;
/// Bits with which single experts are rounded.
pub const BITS_ALONE: u32 = 2;

//! Rounding: what a model loses when its experts, its routers or its attention have few bits for each weight.
//!
//! Most weights of a routed model are those of its experts, so their bits decide its size. One part of the model is rounded at a time, by the
//! simplest rule there is (even levels up to the largest weight that shares the scale), and the loss is measured beside that under noise: changes
//! of every row that are as long, in random directions. Where both cost the same, rounding hurts by its size alone; where noise costs less, the
//! directions that rounding moves in matter.
//!
//! - By part: all experts, the quarter that most or fewest tokens choose, routers, attention; with a scale for each row or for 32 weights.
//! - By domain: whether the text decides what rounded experts cost.
//! - By expert: each alone, so that use can be held against cost.

mod gives;
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

/// Its name in messages and seeds.
const METHOD: &str = "quantised experts";

/// Bits for each weight.
pub const BITS: [u32; 5] = [8, 6, 4, 3, 2];
/// Share of the experts of a layer that count as the most or the least used.
pub const QUARTER: f64 = 0.25;
/// Experts that are rounded alone, at most; more are drawn at random.
pub const ALONE: usize = 32;
/// Bits with which single experts are rounded.
pub const BITS_ALONE: u32 = 2;

//! Ablation: what the model loses without single heads, neurons, experts, layers and sets of experts, and whether it matters how they are taken out.
//!
//! A component is taken out by putting something else in the place of its value, and what that is decides what the number means. A zero is seldom
//! near what a component writes, so that the layers after it meet a stream that they never met in training; the mean keeps what the component says
//! at every token alike; the value of another token keeps the law of its values, and only what it says of this token is lost. Where the three agree,
//! the number is that of the component; where they do not, it is in part that of the way. An expert can go in a fourth way, which pruning takes: its
//! weight is 0, and the other experts of the token have theirs scaled up. What single experts are worth need not add up: experts stand in for each other. So
//! the most used and the least used quarter of a layer are taken out as sets, too.

mod components;
mod effects;
mod gives;
mod instrument;
mod sets;
mod tables;
#[cfg(test)]
mod tests;

use moescope_base::{HookPoint, Site, SubjectShape};

pub use instrument::Ablation;

const METHOD: &str = "ablation";

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 32;
/// Heads, at most, drawn where there are more.
const HEADS: usize = 32;
/// Experts, at most: those with the most tokens, as many of each layer.
const EXPERTS: usize = 24;
/// Attention and feed-forward layers, at most, evenly spaced.
const LAYERS: usize = 8;
/// Routed layers of which sets of experts are taken out, at most, evenly spaced.
const SET_LAYERS: usize = 4;
/// Experts of a set, at most.
const SET: usize = 16;
/// Banks of neurons, at most, one of each of some layers.
const BANKS: usize = 3;
/// Neurons of a bank, at most: those that write most.
const NEURONS: usize = 4;

/// Values that the instrument looks at in one pass, of a layer with heads.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    (0..shape.layers().min(1)).map(|layer| HookPoint::block(Site::AttnZ, layer)).collect()
}

//! Dashboards of single neurons, and of experts: how often each is active, how much it writes, on which texts it is strongest, by which
//! token it is known, what it promotes, and whether it keeps to a domain.

mod bank;
mod choice;
mod dashboard;
mod domains;
mod gives;
mod instrument;
mod known;
mod promoted;
mod share;
mod tables;
mod telling;
#[cfg(test)]
mod tests;
mod texts;
mod unit;

use moescope_base::{HookPoint, SubjectShape};

use crate::depth::spread_over;

pub(crate) use choice::largest_writers;
pub(crate) use domains::{Domains, Strongest};
pub use instrument::NeuronProfile;
pub(crate) use share::Parts;
pub(crate) use tables::plain;
pub(crate) use texts::Text;

/// Layers that are looked at, at most, evenly spaced.
const LAYERS: usize = 4;
/// Experts of a layer that are looked at, at most, beside the one that all tokens share.
const EXPERTS: usize = 4;
/// Neurons of an expert or a dense layer, at most.
const NEURONS: usize = 16;
/// Texts of each neuron.
const TEXTS: usize = 3;
/// Tokens that are named for each neuron.
const NAMED: usize = 5;

/// Values that the instrument looks at in one pass, of the layer with the most neurons for each token.
pub fn looked_at(shape: &SubjectShape) -> Vec<HookPoint> {
    let of = |layer: usize| {
        let banks = bank::banks(shape, layer);
        banks.iter().flat_map(bank::Bank::points).chain(bank::router_points(shape, layer)).collect()
    };
    let layers: Vec<Vec<HookPoint>> = layers(shape).into_iter().map(of).collect();
    layers.into_iter().max_by_key(Vec::len).unwrap_or_default()
}

/// Bytes that the instrument keeps of so many tokens: the neurons of one layer, all of which each token may reach.
pub fn kept(tokens: usize) -> u64 {
    // Value, gate and the place of the token, for each neuron and for the expert as a whole.
    (16 * (EXPERTS + 1) * (NEURONS + 1) * tokens) as u64
}

/// The layers that are looked at.
fn layers(shape: &SubjectShape) -> Vec<usize> {
    spread_over(shape.layers(), LAYERS).collect()
}

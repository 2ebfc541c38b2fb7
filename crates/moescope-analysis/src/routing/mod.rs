//! Where tokens go: load, sharpness, co-activation and locality of the routes of each layer.

mod bit_trade;
mod clusters;
mod coactivation;
mod load;
mod locality;
mod near_ties;
mod null;
#[cfg(test)]
pub(crate) mod planted;
mod sharpness;
mod trade;

pub use clusters::CoactivationClusters;
pub(crate) use coactivation::strongest_partner;
pub use coactivation::{CoactivationReport, LayerCoactivation, coactivation};
pub use load::{LayerLoad, LoadReport, layer_load, load};
pub(crate) use load::{gini, load_of_counts};
pub(crate) use locality::tokens_by_document;
pub use locality::{LayerLocality, LocalityReport, locality};
pub use near_ties::{LayerNearTies, NearTieReport, near_ties};
pub use null::{NullComparison, Permutations};
pub(crate) use null::{comparison_columns, nearest_rank};
pub use sharpness::{LayerSharpness, NEAR_TIE, SharpnessReport, sharpness};

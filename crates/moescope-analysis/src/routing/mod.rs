//! Where tokens go: load, sharpness, co-activation, locality and saturation of the routes of each layer.

mod coactivation;
mod load;
mod locality;
mod null;
mod saturation;
mod sharpness;
mod summary;

pub use coactivation::{CoactivationReport, LayerCoactivation, coactivation};
pub use load::{LayerLoad, LoadReport, layer_load, load};
pub use locality::{LayerLocality, LocalityReport, locality};
pub use null::{NullComparison, Permutations, Tail};
pub(crate) use null::{comparison_columns, nearest_rank};
pub use saturation::{LayerSaturation, SaturationReport, saturation};
pub use sharpness::{LayerSharpness, SharpnessReport, sharpness};
pub use summary::{NEAR_TIE, summary_tables};

use crate::AnalysisError;

pub(crate) fn require_tokens(method: &'static str, tokens: usize) -> Result<(), AnalysisError> {
    match tokens {
        0 => Err(AnalysisError::TooFew { method, unit: "tokens", found: 0, wanted: 1 }),
        _ => Ok(()),
    }
}

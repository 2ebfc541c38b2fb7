//! What a dictionary explains, how sparse it is, and what the same numbers are where there is nothing to find.

mod absorption;
mod density;
mod evaluation;
mod gaussian;
mod loss_recovered;
mod random;
mod recovery;

pub use absorption::{Absorption, AbsorptionRule, absorption};
pub use density::{DensityBin, density_histogram};
pub use evaluation::Evaluation;
pub use gaussian::gaussian_like;
pub use loss_recovered::loss_recovered;
pub use random::random_like;
pub use recovery::{FOUND, Recovery, recovery};

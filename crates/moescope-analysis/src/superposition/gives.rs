//! What the tables of `superposition` hold.
//!
//! Lengths and products are freed of noise by estimating directions in parts of the documents, so that
//! they average 0 where there is nothing and may be negative in one text: interference, a ratio of such
//! sums, may be, too. Dimensionality is cut to 0 and 1. Strength is a mean of standard scores.

use crate::instrument::{Gives, Number};

/// What `superposition` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "superposition",
    rows: &["layer", "place"],
    numbers: &[
        Number::at_least("dimensions", "", 1.0),
        Number::within("asked", "features", 0.0, 48.0),
        Number::up_to("held", "features", 0.0, "asked"),
        Number::up_to("per_dimension", "features for each dimension", 0.0, "asked_per_dimension"),
        Number::at_least("asked_per_dimension", "features for each dimension", 0.0),
        Number::any("strength", "standard deviations").noting("0: as chance"),
        Number::any("scrambled_interference", "dimensions")
            .noting("0: all orthogonal; noise may make it negative"),
        Number::any("scrambled_strength", "standard deviations").noting("0: as chance"),
        Number::share("scrambled_dimensionality", "dimensions"),
        Number::any("interference", "dimensions").noting("0: all orthogonal; noise may make it negative"),
        Number::share("dimensionality", "dimensions"),
    ],
}];

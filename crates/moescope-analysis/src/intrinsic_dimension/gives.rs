//! What the tables of `intrinsic-dimension` hold.
//!
//! The estimate is a number of neighbours over a sum of logarithms of ratios of at least 1: above 0,
//! without a bound of its own. It exceeds the width of the stream only by chance.

use crate::instrument::{Gives, Number};

/// What `intrinsic-dimension` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "intrinsic_dimension",
    rows: &["layer"],
    numbers: &[
        Number::at_least("dimension", "dimensions", 0.0),
        Number::at_least("width", "dimensions", 1.0),
    ],
}];

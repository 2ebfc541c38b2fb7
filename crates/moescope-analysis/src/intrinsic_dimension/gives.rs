//! What the tables of `intrinsic-dimension` hold.

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

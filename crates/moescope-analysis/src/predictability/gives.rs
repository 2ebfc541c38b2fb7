//! What the tables of `predictability` hold.

use crate::instrument::{Gives, Number};

/// What `predictability` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "predictability",
    rows: &["layer", "known"],
    numbers: &[
        Number::share("overlap", "share of experts"),
        Number::within("gain", "share of experts", -1.0, 1.0).noting("above 0: more than the loads tell"),
        Number::share("seen", "share of tokens"),
    ],
}];

//! What the tables of `expert-profile` hold.

use crate::instrument::{Gives, Number};

/// What `expert-profile` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "expert_profile",
    rows: &["layer", "expert"],
    numbers: &[
        Number::share("load", "share of tokens"),
        Number::words("tokens"),
        Number::at_least("telling", "standard deviations", 0.0),
        Number::words("domain"),
        Number::at_least("lift", "times", 1.0),
        Number::words("promotes"),
    ],
}];

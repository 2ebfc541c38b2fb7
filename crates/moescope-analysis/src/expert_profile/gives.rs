//! What the tables of `expert-profile` hold.
//!
//! Deviance is a signed root; the most telling token has one above 0, or there is none and 0 stands.
//! The lift is that of the domain with the largest one, and the mean of lifts over domains, weighted by
//! tokens, is 1: it cannot be smaller.

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

//! What the tables of `expert-cache` hold.

use crate::instrument::{Gives, Number};

/// What `expert-cache` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "expert_cache",
    rows: &["layer", "room"],
    numbers: &[Number::share("hit_rate", "share of slots")],
}];

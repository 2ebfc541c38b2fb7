//! What the tables of `expert-cache` hold.
//!
//! A hit is a slot whose expert is in the cache; the first use of an expert is never one, so that 1 is
//! reached only in the limit of long texts.

use crate::instrument::{Gives, Number};

/// What `expert-cache` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "expert_cache",
    rows: &["layer", "room"],
    numbers: &[Number::share("hit_rate", "share of slots")],
}];

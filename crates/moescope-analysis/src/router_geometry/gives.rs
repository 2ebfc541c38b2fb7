//! What the tables of `router-geometry` hold.
//!
//! Cosines of rows count without their sign, since a row turned round reads the same direction; that of
//! a row and its inputs has one. The effective rank is the exponential of an entropy over at most as
//! many directions as there are experts or coordinates.

use crate::instrument::{Gives, Number};

/// What `router-geometry` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "router_geometry",
    rows: &["layer"],
    numbers: &[
        Number::at_least("experts", "experts", 1.0),
        Number::within("alignment", "cosine", -1.0, 1.0),
        Number::within("alignment_excess", "cosine", -2.0, 2.0),
        Number::up_to("chosen", "experts", 0.0, "experts"),
        Number::share("mean_cosine", "cosine"),
        Number::within("mean_cosine_excess", "cosine", -1.0, 1.0),
        Number::share("largest_cosine", "cosine"),
        Number::within("largest_cosine_excess", "cosine", -1.0, 1.0),
        Number::up_to("effective_rank", "directions", 1.0, "the smaller of experts and width"),
        Number::any("effective_rank_excess", "directions"),
    ],
}];

//! What the tables of `router-geometry` hold.

use crate::instrument::{Gives, Number};

/// What `router-geometry` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "router_geometry",
    rows: &["layer"],
    numbers: &[
        Number::at_least("experts", "experts", 1.0),
        Number::within("alignment", "cosine", -1.0, 1.0),
        Number::any("alignment_excess", "cosine"),
        Number::up_to("chosen", "experts", 0.0, "experts"),
        Number::share("mean_cosine", "cosine"),
        Number::any("mean_cosine_excess", "cosine"),
        Number::share("largest_cosine", "cosine"),
        Number::any("largest_cosine_excess", "cosine"),
        Number::up_to("effective_rank", "directions", 1.0, "experts, or the width"),
        Number::any("effective_rank_excess", "directions"),
    ],
}];

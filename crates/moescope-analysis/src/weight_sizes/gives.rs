//! What the tables of `expert-weights` hold.
//!
//! Norms are in units of the weights. Ranks count directions of a matrix, one at least and at most its
//! smaller side, of which at most 256 neurons are looked at. A matrix of zeros has no rank and is
//! refused. The largest norm over the median cannot be below 1.

use crate::instrument::{Gives, Number};

/// What `expert-weights` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "expert_weights",
        rows: &["layer", "matrix"],
        numbers: &[
            Number::at_least("experts", "experts", 1.0),
            Number::at_least("frobenius", "weight", 0.0),
            Number::at_least("spread", "natural logarithm", 0.0),
            Number::any("spread_excess", "natural logarithm"),
            Number::share("spread_holm", ""),
            Number::words("largest"),
            Number::at_least("times_median", "times", 1.0),
            Number::up_to("effective_rank", "directions", 1.0, "the smaller side, 256 at most"),
            Number::up_to("stable_rank", "directions", 1.0, "the smaller side, 256 at most"),
            Number::up_to("lowest_rank", "directions", 1.0, "the smaller side, 256 at most"),
            Number::words("lowest"),
            Number::up_to("below", "experts", 0.0, "experts"),
        ],
    },
    Gives {
        table: "expert_weights_by_expert",
        rows: &["layer", "expert", "matrix"],
        numbers: &[
            Number::at_least("frobenius", "weight", 0.0),
            Number::at_least("spectral", "weight", 0.0),
            Number::up_to("effective_rank", "directions", 1.0, "the smaller side, 256 at most"),
            Number::up_to("stable_rank", "directions", 1.0, "the smaller side, 256 at most"),
            Number::at_least("norm", "weight", 0.0),
            Number::share("load", "share of slots"),
            Number::at_least("answer", "activation", 0.0),
        ],
    },
    Gives {
        table: "expert_weights_use",
        rows: &["first", "second", "layer"],
        numbers: &[Number::within("correlation", "", -1.0, 1.0), Number::share("corrected", "")],
    },
];

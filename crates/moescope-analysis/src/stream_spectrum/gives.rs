//! What the tables of `spectrum` hold.
//!
//! Effective rank and participation ratio count directions of a covariance: one at least, and at most
//! its width or one less than the rows. A router tells experts apart by differences of its rows, of
//! which there are one fewer than experts.

use crate::instrument::{Gives, Number};

/// What `spectrum` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "spectrum_of_sites",
        rows: &["site"],
        numbers: &[
            Number::at_least("rows", "rows", 1.0),
            Number::at_least("dimensions", "dimensions", 1.0),
            Number::up_to("effective_rank", "dimensions", 1.0, "the smaller of dimensions and rows less one"),
            Number::up_to(
                "participation_ratio",
                "dimensions",
                1.0,
                "the smaller of dimensions and rows less one",
            ),
            Number::at_least("total_variance", "squared activation", 0.0),
        ],
    },
    Gives {
        table: "control_share",
        rows: &["layer"],
        numbers: &[
            Number::up_to("rank", "dimensions", 1.0, "experts less one"),
            Number::at_least("width", "dimensions", 1.0),
            Number::share("share", "share of variance"),
        ],
    },
];

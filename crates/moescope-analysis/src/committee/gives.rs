//! What the tables of `committee` hold.
//!
//! A committee has one member at least and all experts at most. Weights as applied are no less than 0,
//! so that the Gini coefficient stays below one. Jaccard indices compare sets, or shares that sum to
//! one, and so do their chances; an excess over exchanged documents has either sign.

use crate::instrument::{Gives, Number};

/// What `committee` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "committee",
        rows: &["layer"],
        numbers: &[
            Number::at_least("experts", "experts", 1.0),
            Number::up_to("size", "experts", 1.0, "experts"),
            Number::share("gini", "ratio").noting("0: even"),
        ],
    },
    Gives {
        table: "committee_domains",
        rows: &["layer"],
        numbers: &[
            Number::up_to("set", "experts", 1.0, "half of the experts"),
            Number::share("weight", "Jaccard index"),
            Number::within("weight_excess", "Jaccard index", -1.0, 1.0),
            Number::share("sets", "Jaccard index"),
            Number::within("sets_excess", "Jaccard index", -1.0, 1.0),
            Number::share("chance", "Jaccard index"),
        ],
    },
];

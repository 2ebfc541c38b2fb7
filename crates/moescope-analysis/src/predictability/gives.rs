//! What the tables of `predictability` hold.
//!
//! Guessed experts are a share of the chosen ones. A predictor may do worse than the loads alone where
//! its counts are small: then the paired gain is below 0, which is no finding.

use crate::instrument::{Gives, Number};

/// What `predictability` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "predictability",
        rows: &["layer", "known"],
        numbers: &[
            Number::share("overlap", "share of experts"),
            Number::within("gain", "share of experts", -1.0, 1.0).noting("above 0: more than the loads tell"),
            Number::share("seen", "share of tokens"),
        ],
    },
    Gives {
        table: "context_agreement",
        rows: &["layer"],
        numbers: &[
            Number::share("same", "Jaccard index").noting("1: the context decides nothing"),
            Number::within("gain", "Jaccard index", -1.0, 1.0).noting("above 0: the token decides something"),
            Number::at_least("tokens", "tokens", 1.0),
        ],
    },
];

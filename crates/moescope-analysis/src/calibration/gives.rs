//! What the tables of `calibration` hold.
//!
//! All numbers are means of probabilities, or distances between two such means: from 0 to 1. Groups are
//! of equal size; with fewer predictions than groups there are fewer groups, and none is empty.

use crate::instrument::{Gives, Number};

/// What `calibration` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "calibration",
        rows: &[],
        numbers: &[
            Number::share("error", "probability"),
            Number::share("error_allowed", "probability"),
            Number::share("accuracy", "share of predictions"),
            Number::share("confidence", "probability"),
        ],
    },
    Gives {
        table: "calibration_groups",
        rows: &["group"],
        numbers: &[
            Number::share("confidence", "probability"),
            Number::share("accuracy", "share of predictions"),
            Number::at_least("predictions", "", 1.0),
        ],
    },
];

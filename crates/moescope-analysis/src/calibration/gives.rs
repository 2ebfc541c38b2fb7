//! What the tables of `calibration` hold.

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

//! What the tables of `attribution-patching` hold.
//!
//! Effects are changes of the summed loss of a sequence, above 0 where the edit makes it worse. Errors
//! are means of sizes over means of sizes: never below 0, and above 1 where the prediction is worse
//! than none. The metrics of `attribution_patching` have units of their own, so that its one column of
//! values has no common bound.

use crate::instrument::{Gives, Number};

/// What `attribution-patching` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "attribution_patching",
        rows: &["metric"],
        numbers: &[
            Number::words("unit"),
            Number::any("value", "see the row")
                .noting("correlations −1 to 1, shares 0 to 1, errors 0 or more"),
        ],
    },
    Gives {
        table: "attribution_errors",
        rows: &["edits", "prediction"],
        numbers: &[Number::at_least("error", "of the mean effect", 0.0)
            .noting("0: exact, 1: no better than predicting no effect")],
    },
    Gives {
        table: "attribution_edits",
        rows: &["document", "layer", "site", "position", "routes"],
        numbers: &[
            Number::any("predicted", "nats").noting("above 0: the loss rises"),
            Number::any("actual", "nats").noting("above 0: the loss rises"),
            Number::any("held", "nats").noting("above 0: the loss rises"),
            Number::any("integrated", "nats").noting("above 0: the loss rises"),
            Number::any("integrated_held", "nats").noting("above 0: the loss rises"),
        ],
    },
];

//! What the tables of `quantised-experts` hold.

use crate::instrument::{Gives, Number};

/// What `quantised-experts` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "quantised_parts",
        rows: &["line", "part", "scales", "bits"],
        numbers: &[
            Number::share("error", "share"),
            Number::any("loss", "nats per token").noting("above 0: the loss rises"),
            Number::any("beyond", "nats per token").noting("above 0: rounding hurts less than noise"),
        ],
    },
    Gives {
        table: "quantised_domains",
        rows: &["domain", "bits"],
        numbers: &[Number::any("loss", "nats per token").noting("above 0: the loss rises")],
    },
    Gives {
        table: "quantised_usage",
        rows: &["layer", "expert"],
        numbers: &[
            Number::share("load", "share of tokens"),
            Number::any("loss", "nats per token").noting("above 0: the loss rises"),
        ],
    },
    Gives {
        table: "quantised_correlation",
        rows: &["between"],
        numbers: &[Number::within("correlation", "", -1.0, 1.0)],
    },
];

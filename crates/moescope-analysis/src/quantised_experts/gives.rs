//! What the tables of `quantised-experts` hold.
//!
//! Rounding to even levels with 0 among them moves no weight by more than its size, so that the
//! relative error stays within 1. Losses may fall by chance. Noise is as long as the rounding: what is
//! beyond it tells that rounding does not point where it hurts.

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

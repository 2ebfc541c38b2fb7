//! What the tables of `path-profile` hold.
//!
//! A purity is the probability that two tokens of different documents agree, and a path minus an expert
//! is a difference of two of these. The lift is that of the domain with the largest one: 1 or more,
//! since lifts average to 1. Losses are never negative, differences of losses may be.

use crate::instrument::{Gives, Number};

/// What `path-profile` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "path_profile",
        rows: &["path"],
        numbers: &[
            Number::share("share", "share of tokens"),
            Number::words("tokens"),
            Number::at_least("telling", "standard deviations", 0.0),
            Number::words("predicts"),
            Number::at_least("predicting", "standard deviations", 0.0),
            Number::words("domain"),
            Number::at_least("lift", "times", 1.0),
            Number::share("purity", "probability"),
            Number::share("purest", "probability"),
            Number::at_least("loss", "nats per token", 0.0),
            Number::any("beyond_tokens", "nats per token").noting("above 0: harder than its tokens are"),
            Number::up_to("entropy", "nats", 0.0, "ln(experts)"),
        ],
    },
    Gives {
        table: "path_purity",
        rows: &["label"],
        numbers: &[Number::share("path", "probability"), Number::within("gain", "probability", -1.0, 1.0)],
    },
    Gives {
        table: "path_texts",
        rows: &["path"],
        numbers: &[
            Number::words("token"),
            Number::words("predicted"),
            Number::at_least("document", "", 0.0),
            Number::words("text"),
        ],
    },
    Gives {
        table: "path_passages",
        rows: &["passage", "token", "mark"],
        numbers: &[Number::at_least("loss", "nats", 0.0)],
    },
];

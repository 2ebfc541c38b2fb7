//! What the tables of `domain-shift` hold.
//!
//! Distances between loads are total variations, half the sum of differences of shares, and agreement
//! is a share of the chosen experts: from 0 to 1. A disturbance may also help by chance, so that the
//! change of the loss has either sign. Amounts are what was done to the text and no result.

use crate::instrument::{Gives, Number};

/// What `domain-shift` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "shift_loss",
        rows: &["line", "disturbance", "tokens"],
        numbers: &[
            Number::share("amount", "share of tokens or of the embedding"),
            Number::any("loss", "nats per token").noting("above 0: the disturbance hurts"),
        ],
    },
    Gives {
        table: "shift_routes",
        rows: &["layer", "line", "disturbance", "tokens"],
        numbers: &[
            Number::share("amount", "share of tokens or of the embedding"),
            Number::share("agreement", "share of experts"),
            Number::share("load_shift", "share of slots"),
        ],
    },
    Gives {
        table: "shift_domains",
        rows: &["domain"],
        numbers: &[Number::share("shift", "share of slots"), Number::share("p_holm", "probability")],
    },
];

//! What the tables of `routing-regret` hold.

use crate::instrument::{Gives, Number};

/// What `routing-regret` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "routing_regret",
    rows: &["layer"],
    numbers: &[
        Number::at_least("regret", "nats", 0.0),
        Number::any("advantage", "nats").noting("above 0: better than chance"),
        Number::share("rank", "share of sets").noting("0: the best was chosen"),
        Number::at_least("tokens", "tokens", 1.0),
    ],
}];

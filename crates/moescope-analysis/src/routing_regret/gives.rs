//! What the tables of `routing-regret` hold.
//!
//! The chosen set is among those that are tried, so that regret is never negative, and never shows that
//! the choice was good: for that stands the advantage, which is below 0 where sets drawn at random
//! predict better.

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

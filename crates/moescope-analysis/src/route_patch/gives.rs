//! What the tables of `route-patch` hold.
//!
//! Divergence from the unpatched prediction is never negative; the loss of the true next token may fall
//! where another sequence's routes serve it better.

use crate::instrument::{Gives, Number};

/// What `route-patch` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "route_patch",
    rows: &["layer", "given"],
    numbers: &[
        Number::at_least("kl", "nats per token", 0.0),
        Number::any("loss", "nats per token").noting("above 0: the loss rises"),
        Number::share("other_routes", "share of tokens"),
    ],
}];

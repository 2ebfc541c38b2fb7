//! What the tables of `causal-trace` hold.

use crate::instrument::{Gives, Number};

/// What `causal-trace` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "causal_trace",
    rows: &["reach", "layer", "restored", "place", "routes", "what"],
    numbers: &[
        Number::any("recovery", "share of what noise takes").noting("0: nothing comes back, 1: all"),
        Number::within("effect", "probability", -1.0, 1.0),
        Number::within("total", "probability", -1.0, 1.0).noting("above 0: the noise takes something"),
        Number::at_least("cases", "sequences", 1.0),
    ],
}];

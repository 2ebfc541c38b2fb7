//! What the tables of `causal-trace` hold.
//!
//! Probabilities come back from a disturbance that is drawn anew after the case was chosen: on average
//! it takes something, but it need not, so that `total` may fall below 0 and the share of it that comes
//! back has no bound. One restored vector may also do harm.

use crate::instrument::{Gives, Number};

/// What `causal-trace` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives { table: "causal_trace", rows: &["layer", "restored", "routes", "what"], numbers: &RECOVERY },
    Gives {
        table: "causal_trace_later",
        rows: &["layer", "restored", "place", "routes", "what"],
        numbers: &RECOVERY,
    },
    Gives { table: "causal_trace_heads", rows: &["layer", "head"], numbers: &RECOVERY },
];

const RECOVERY: [Number; 4] = [
    Number::any("recovery", "share of what noise takes").noting("0: nothing comes back, 1: all"),
    Number::within("effect", "probability", -1.0, 1.0),
    Number::within("total", "probability", -1.0, 1.0).noting("above 0: the noise takes something"),
    Number::at_least("cases", "sequences", 1.0),
];

//! What the tables of `prefill-decode` hold.
//!
//! Loads are compared by total variation, from 0 to 1. Changes are what is generated less what the text
//! has: those of shares stay between −1 and 1, that of an entropy has no bound that is the same for all
//! layers. The expert that gains most is a number, not a result to be averaged.

use crate::instrument::{Gives, Number};

/// What `prefill-decode` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "prefill_decode",
        rows: &["layer"],
        numbers: &[
            Number::share("distance", "share of slots"),
            Number::within("distance_excess", "share of slots", -1.0, 1.0),
            Number::any("entropy_change", "nats").noting("above 0: less decided while generating"),
            Number::within("handed_on_change", "share", -1.0, 1.0)
                .noting("above 0: more is handed on while generating"),
            Number::up_to("gained", "", 0.0, "experts less one"),
            Number::share("in_text", "share of slots"),
            Number::share("generated", "share of slots"),
            Number::share("same_set", "share of tokens"),
        ],
    },
    Gives {
        table: "prompt_and_answer",
        rows: &["layer"],
        numbers: &[
            Number::share("prompt", "share of experts"),
            Number::share("generated", "share of experts"),
            Number::share("covered", "share of slots"),
            Number::share("nearness", "share of slots"),
            Number::within("nearness_excess", "share of slots", -1.0, 1.0),
        ],
    },
];

//! What the tables of `neuron-profile` hold.
//!
//! Activations have either sign, lengths have none. The most telling token is beyond chance, or there
//! is none and 0 stands. Selectivity is the largest of the means by domain in units of the mean over
//! all, which is a weighted mean of these: 1 or more.

use crate::instrument::{Gives, Number};

/// What `neuron-profile` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "neuron_profile",
        rows: &["layer", "expert", "neuron"],
        numbers: &[
            Number::share("density", "share of tokens"),
            Number::at_least("write", "length in the stream", 0.0),
            Number::words("tokens"),
            Number::at_least("telling", "standard deviations", 0.0),
            Number::words("domain"),
            Number::at_least("selectivity", "times", 1.0),
            Number::words("promotes"),
        ],
    },
    Gives {
        table: "neuron_texts",
        rows: &["layer", "expert", "neuron", "rank"],
        numbers: &[
            Number::any("value", "activation"),
            Number::words("token"),
            Number::at_least("document", "", 0.0),
            Number::words("text"),
        ],
    },
    Gives {
        table: "neuron_passages",
        rows: &["passage", "token", "mark"],
        numbers: &[Number::any("value", "activation")],
    },
    Gives {
        table: "neuron_known",
        rows: &["weights"],
        numbers: &[
            Number::at_least("neurons", "neurons", 0.0),
            Number::up_to("known", "neurons", 0.0, "neurons"),
            Number::at_least("telling", "standard deviations", 0.0),
        ],
    },
];

//! What the tables of `ablation` hold.
//!
//! Rises of the loss have no bound and either sign: a component that misleads the model is better gone,
//! and with few documents chance may say so of any. The ways of taking out are compared by ranks where
//! four components or more are taken out both ways, so that a correlation is never that of three
//! points.

use crate::instrument::{Gives, Number};

/// What `ablation` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "ablation",
        rows: &["component", "kind", "layer", "number", "how"],
        numbers: &[Number::any("loss", "nats per token").noting("above 0: the model needs it")],
    },
    Gives {
        table: "ablation_largest",
        rows: &["component", "kind", "layer", "number", "how"],
        numbers: &[Number::any("loss", "nats per token").noting("above 0: the model needs it")],
    },
    Gives {
        table: "ablation_agreement",
        rows: &["how", "other"],
        numbers: &[
            Number::within("correlation", "rank correlation", -1.0, 1.0),
            Number::at_least("components", "", 4.0),
        ],
    },
    Gives {
        table: "ablation_sets",
        rows: &["layer", "set", "how"],
        numbers: &[
            Number::words("experts"),
            Number::share("load", "share of slots"),
            Number::any("loss", "nats per token").noting("above 0: the model needs them"),
        ],
    },
];

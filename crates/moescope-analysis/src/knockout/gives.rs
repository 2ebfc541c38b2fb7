//! What the tables of `expert-importance` hold.
//!
//! The loss without an expert may also be smaller: then the expert misleads on this text. Exactly 0 is
//! an expert that no token chooses.

use crate::instrument::{Gives, Number};

/// What `expert-importance` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "expert_importance",
        rows: &["layer", "expert"],
        numbers: &[
            Number::any("loss", "nats per token").noting("above 0: the model needs it"),
            Number::share("load", "share of tokens"),
        ],
    },
    Gives {
        table: "expert_curve",
        rows: &["removed"],
        numbers: &[Number::any("loss", "nats per token").noting("above 0: the model needs them")],
    },
];

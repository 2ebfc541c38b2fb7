//! What the tables of `ablation` hold.

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
];

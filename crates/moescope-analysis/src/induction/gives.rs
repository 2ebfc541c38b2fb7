//! What the tables of `induction` hold.
//!
//! Attention to one earlier position is a share of all. The loss may rise or fall from the first copy
//! to the second, and without a head; a head that was not taken out has no rise, and where few heads
//! were, there is no correlation.

use crate::instrument::{Gives, Number};

/// What `induction` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "induction",
        rows: &[],
        numbers: &[
            Number::any("gain", "nats per token").noting("above 0: the repetition is easier"),
            Number::within("proof", "correlation", -1.0, 1.0),
        ],
    },
    Gives {
        table: "induction_heads",
        rows: &["layer", "head"],
        numbers: &[
            Number::share("score", "attention"),
            Number::any("loss_without", "nats per token").noting("above 0: the head is needed"),
        ],
    },
];

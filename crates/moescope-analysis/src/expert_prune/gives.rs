//! What the tables of `expert-prune` hold.
//!
//! Losses are differences from the model as it is, of either sign. What a criterion spares is a
//! difference from random removals of the same size: above 0 where the criterion knows something, below
//! where what it calls unimportant is needed more than others.

use crate::instrument::{Gives, Number};

/// What `expert-prune` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "expert_pruning",
        rows: &["line", "criterion", "way"],
        numbers: &[
            Number::share("share", "share of experts"),
            Number::up_to("removed", "experts", 0.0, "experts"),
            Number::any("loss", "nats per token").noting("above 0: the loss rises"),
            Number::any("saved", "nats per token").noting("above 0: better than random ones"),
        ],
    },
    Gives {
        table: "neuron_pruning",
        rows: &["line"],
        numbers: &[
            Number::share("share", "share of neurons"),
            Number::any("loss", "nats per token").noting("above 0: the loss rises"),
            Number::any("saved", "nats per token").noting("above 0: better than random ones"),
        ],
    },
];

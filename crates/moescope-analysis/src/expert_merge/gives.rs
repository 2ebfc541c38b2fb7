//! What the tables of `expert-merge` hold.
//!
//! Barriers are measured against the straight line between the losses at its ends and may be below 0
//! where the middle is better than both. Cosines are those of flattened weights. The share of experts
//! that are gone is of those that may be merged, so that it stays below one.

use crate::instrument::{Gives, Number};

/// What `expert-merge` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "merge_barrier",
        rows: &["layer", "pair", "first", "second"],
        numbers: &[
            Number::within("cosine", "cosine", -1.0, 1.0),
            Number::at_least("tokens", "tokens", 0.0),
            Number::any("plain", "nats per token of the pair").noting("0 or less: no barrier"),
            Number::any("matched", "nats per token of the pair").noting("0 or less: no barrier"),
            Number::any("merged_plain", "nats per token of the pair").noting("above 0: the loss rises"),
            Number::any("merged", "nats per token of the pair").noting("above 0: the loss rises"),
        ],
    },
    Gives {
        table: "merge_path",
        rows: &["line"],
        numbers: &[
            Number::share("alpha", "share"),
            Number::any("excess", "nats per token of the pair")
                .noting("above 0: worse than between the ends"),
        ],
    },
    Gives {
        table: "merging_curve",
        rows: &["way"],
        numbers: &[
            Number::share("share", "share of experts"),
            Number::up_to("merged", "experts", 0.0, "experts"),
            Number::any("loss", "nats per token").noting("above 0: the loss rises"),
        ],
    },
];

//! What the tables of `expert-similarity` hold.
//!
//! Cosines of flattened weights. A matching takes the best of many partners, so that `matched` is
//! hardly ever negative, but nothing forbids it. Layers of one expert have no pair and are left out; of
//! many experts 120 pairs are drawn.

use crate::instrument::{Gives, Number};

/// What `expert-similarity` gives.
pub(super) const GIVES: &[Gives] = &[Gives {
    table: "expert_similarity",
    rows: &["layer"],
    numbers: &[
        Number::within("pairs", "pairs", 1.0, 120.0),
        Number::within("matched", "cosine", -1.0, 1.0),
        Number::within("plain", "cosine", -1.0, 1.0),
        Number::within("largest", "cosine", -1.0, 1.0),
        Number::words("closest"),
        Number::up_to("alike", "pairs", 0.0, "pairs"),
        Number::at_least("neurons", "neurons", 1.0),
    ],
}];

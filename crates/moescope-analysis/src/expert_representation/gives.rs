//! What the tables of `expert-representation` hold.
//!
//! Canonical correlations and Procrustes stay between 0 and 1. Unbiased CKA is a cosine between centred
//! kernels and RSA a rank correlation, which may both be negative; for unrelated answers they are as
//! often below 0 as above. Ranks of a covariance are at most its width and at most one less than the
//! rows.

use crate::instrument::{Gives, Number};

/// What `expert-representation` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "expert_likeness",
        rows: &["measure", "layer", "first", "second"],
        numbers: &[
            Number::within("likeness", "", -1.0, 1.0).noting("below 0 for CKA and RSA alone"),
            Number::within("likeness_excess", "", -2.0, 2.0),
            Number::within("input", "", -1.0, 1.0),
        ],
    },
    Gives {
        table: "expert_likeness_means",
        rows: &["measure", "layer"],
        numbers: &[
            Number::within("likeness", "", -1.0, 1.0),
            Number::within("input", "", -1.0, 1.0),
            Number::at_least("pairs", "pairs", 1.0),
        ],
    },
    Gives {
        table: "expert_dimensions",
        rows: &["whose", "of", "layer"],
        numbers: &[
            Number::at_least("rows", "rows", 1.0),
            Number::at_least("dimension", "dimensions", 0.0),
            Number::up_to("effective_rank", "dimensions", 1.0, "the smaller of width and rows less one"),
            Number::up_to("participation_ratio", "dimensions", 1.0, "the smaller of width and rows less one"),
        ],
    },
];

//! What the tables of `similarity` hold.
//!
//! Canonical correlations and Procrustes stay between 0 and 1. Unbiased CKA is a cosine between centred
//! kernels and RSA a rank correlation: both may be negative. An excess is a difference of two such
//! numbers, and slightly above 1 where equal layers meet a null slightly below 0.

use crate::instrument::{Gives, Number};

/// What `similarity` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "similarity",
        rows: &["measure", "first", "second"],
        numbers: &[
            Number::within("likeness", "", -1.0, 1.0).noting("below 0 for CKA and RSA alone"),
            Number::within("likeness_excess", "", -2.0, 2.0),
        ],
    },
    Gives {
        table: "similarity_cka",
        rows: &["measure", "first", "second"],
        numbers: &[
            Number::within("likeness", "", -1.0, 1.0),
            Number::within("likeness_excess", "", -2.0, 2.0),
        ],
    },
];

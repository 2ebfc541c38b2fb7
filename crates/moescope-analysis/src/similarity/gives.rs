//! What the tables of `similarity` hold.

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

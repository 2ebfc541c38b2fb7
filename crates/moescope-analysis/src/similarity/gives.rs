//! What the tables of `similarity` hold.

use crate::instrument::{Gives, Number};

/// What `similarity` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "similarity",
        rows: &["measure", "first", "second"],
        numbers: &[
            Number::within("likeness", "", -1.0, 1.0).noting("below 0 only CKA and RSA"),
            Number::any("likeness_excess", ""),
        ],
    },
    Gives {
        table: "similarity_cka",
        rows: &["measure", "first", "second"],
        numbers: &[Number::within("likeness", "", -1.0, 1.0), Number::any("likeness_excess", "")],
    },
];

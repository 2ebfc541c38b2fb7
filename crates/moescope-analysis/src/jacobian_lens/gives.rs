//! What the tables of `jacobian-lens` hold.
//!
//! Cosines between a predicted and a true change are between −1 and 1, and a gain is a difference of
//! two of them. The variance is that of the directions along which the stream was moved, as a share of
//! all.

use crate::instrument::{Gives, Number};

/// What `jacobian-lens` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "jacobian_lens",
        rows: &["layer"],
        numbers: &[
            Number::within("cosine", "cosine", -1.0, 1.0),
            Number::within("gain", "cosine", -2.0, 2.0).noting("above 0: nearer than the change itself"),
            Number::within("cosine_free", "cosine", -1.0, 1.0),
            Number::share("flips", "share of changes"),
            Number::share("variance", "share"),
            Number::at_least("directions", "directions", 1.0),
        ],
    },
    Gives {
        table: "jacobian_lens_by_expert",
        rows: &["layer"],
        numbers: &[
            Number::within("gain", "cosine", -2.0, 2.0).noting("above 0: nearer than with shuffled experts")
        ],
    },
    Gives {
        table: "jacobian_lens_by_path",
        rows: &["layer"],
        numbers: &[Number::within("gain", "cosine", -2.0, 2.0)
            .noting("above 0: nearer than by the first expert alone")],
    },
];

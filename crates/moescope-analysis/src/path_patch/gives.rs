//! What the tables of `path-patch` hold.
//!
//! Divergences and lengths are never negative. A gain less that of random directions is below 0 where
//! the receiver is deaf to what the sender says, and the loss may fall with a changed path as well as
//! rise.

use crate::instrument::{Gives, Number};

/// What `path-patch` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "path_patch_edges",
        rows: &["sender", "receiver", "reads"],
        numbers: &[
            Number::at_least("gain", "length per length", 0.0),
            Number::any("beyond", "length per length").noting("0: as random directions"),
        ],
    },
    Gives {
        table: "path_patch",
        rows: &["path", "routes", "sender", "layer", "receiver"],
        numbers: &[
            Number::at_least("kl", "nats per token", 0.0),
            Number::any("loss", "nats per token").noting("above 0: the loss rises"),
            Number::share("other_routes", "share of tokens"),
        ],
    },
];

//! What the tables of `dictionary` hold.
//!
//! Explained variance in other documents is at most 1 and below 0 where the dictionary writes worse
//! than the mean of the site. The share of the loss that is kept has no bound: a dictionary may be
//! worse than the mean, or better than what is there. Shares of features count either all or the active
//! ones.

use crate::instrument::{Gives, Number};

/// What `dictionary` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "dictionaries",
        rows: &["site"],
        numbers: &[
            Number::words("what"),
            Number::at_least("rows", "rows", 1.0),
            Number::at_least("features", "features", 1.0),
            Number::at_most("explained", "share", 1.0).noting("below 0: worse than the mean"),
            Number::any("beyond", "share").noting("0: no more than of Gaussian rows"),
            Number::share("dead", "share of features"),
            Number::share("found_again", "share of features"),
            Number::share("scrambled_found_again", "share of features"),
            Number::any("loss_added", "nats per token").noting("above 0: the loss rises"),
            Number::any("recovered", "share").noting("0: as bad as the mean, 1: all is kept"),
            Number::share("absorbed", "share of tokens"),
        ],
    },
    Gives {
        table: "dictionary_densities",
        rows: &["site", "density"],
        numbers: &[Number::up_to("count", "features", 0.0, "features")],
    },
    Gives {
        table: "dictionary_features",
        rows: &["site", "feature"],
        numbers: &[
            Number::share("density", "share of rows"),
            Number::within("cosine", "cosine", -1.0, 1.0),
            Number::words("tokens"),
        ],
    },
];

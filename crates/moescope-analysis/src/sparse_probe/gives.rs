//! What the tables of `sparse-probe` hold.
//!
//! F1 is the harmonic mean of two shares. Layer, expert and neuron of `sparse_probe_features` name what
//! was found and are no sizes.

use crate::instrument::{Gives, Number};

/// What `sparse-probe` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "sparse_probe",
        rows: &["layer", "neurons"],
        numbers: &[Number::share("f1", ""), Number::at_least("features", "features", 1.0)],
    },
    Gives {
        table: "sparse_probe_features",
        rows: &["feature", "kind"],
        numbers: &[
            Number::at_least("layer", "", 0.0),
            Number::words("expert"),
            Number::at_least("neuron", "", 0.0),
            Number::words("sign"),
            Number::share("f1", ""),
        ],
    },
];

//! What the tables of `tuned-lens` hold.
//!
//! Divergences of predictions are never negative. Gains are differences of divergences of the same
//! tokens, below 0 where the lens that knows more was trained worse, which happens where tokens are
//! few.

use crate::instrument::{Gives, Number};

/// What `tuned-lens` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives {
        table: "tuned_lens",
        rows: &["layer"],
        numbers: &[
            Number::at_least("logit", "nats per token", 0.0),
            Number::at_least("tuned", "nats per token", 0.0),
            Number::any("gain", "nats per token").noting("above 0: the tuned lens is nearer"),
            Number::at_least("trained", "tokens", 1.0),
            Number::at_least("tested", "tokens", 1.0),
        ],
    },
    Gives {
        table: "tuned_lens_curves",
        rows: &["layer", "lens"],
        numbers: &[Number::at_least("divergence", "nats per token", 0.0)],
    },
    Gives {
        table: "tuned_lens_by_expert",
        rows: &["layer"],
        numbers: &[
            Number::at_least("divergence", "nats per token", 0.0),
            Number::any("gain", "nats per token").noting("above 0: the expert tells something"),
        ],
    },
    Gives {
        table: "tuned_lens_by_path",
        rows: &["layer"],
        numbers: &[
            Number::at_least("divergence", "nats per token", 0.0),
            Number::any("gain", "nats per token").noting("above 0: the path tells something"),
        ],
    },
];

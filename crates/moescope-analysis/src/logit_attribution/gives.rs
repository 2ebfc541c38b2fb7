//! What the tables of `logit-attribution` hold.
//!
//! Logits against the mean over the vocabulary: what a part adds to the token that comes, negative
//! where it speaks against it. All parts together sum to the logit, so that single ones have no bound.
//! Parts that write for some tokens have a mean over these beside that over all.

use crate::instrument::{Gives, Number};

/// Results of `logit_attribution` and of its like.
const LOGIT_ATTRIBUTION: &[Number] = &[
    Number::any("logit", "logits").noting("above 0: for the token that comes"),
    Number::any("where_active", "logits").noting("above 0: for the token that comes"),
    Number::share("active", "share of tokens"),
];

/// What `logit-attribution` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives { table: "logit_attribution", rows: &["part", "kind"], numbers: LOGIT_ATTRIBUTION },
    Gives { table: "logit_attribution_largest", rows: &["part", "kind"], numbers: LOGIT_ATTRIBUTION },
];

//! What the tables of `saturation`, `expert-alignment`, `model-similarity` and `model-agreement` hold.
//!
//! Agreements of sets are shares of the chosen experts. Corrected for chance they are at most 1, and
//! below 0 where models agree less than sets drawn at random; how far below depends on the share of
//! experts that is chosen. Unbiased CKA is a cosine between centred kernels: negative as often as
//! positive for unrelated streams.

use crate::instrument::{Gives, Number};

/// What `saturation` gives.
pub(super) const SATURATION: &[Gives] = &[Gives {
    table: "saturation",
    rows: &["checkpoint", "step", "layer"],
    numbers: &[
        Number::at_most("corrected", "share of what is possible", 1.0).noting("0: as sets drawn at random"),
        Number::share("agreement", "share of experts"),
        Number::at_most("load_corrected", "share of what is possible", 1.0).noting("0: as the loads alone"),
    ],
}];

/// What `expert-alignment` gives.
pub(super) const EXPERT_ALIGNMENT: &[Gives] = &[
    Gives {
        table: "expert_alignment",
        rows: &["other", "layer", "other_layer"],
        numbers: &[
            Number::at_least("experts", "experts", 1.0),
            Number::within("matched", "", -1.0, 1.0).noting("1: alike but for rotation and scale"),
            Number::within("named", "", -1.0, 1.0).noting("1: alike but for rotation and scale"),
            Number::up_to("kept", "experts", 0.0, "experts"),
        ],
    },
    Gives {
        table: "expert_alignment_measures",
        rows: &["other", "layer", "measure", "experts"],
        numbers: &[
            Number::within("likeness", "", -1.0, 1.0)
                .noting("1: alike but for rotation and scale (RSA: for scale)"),
            Number::at_least("pairs", "pairs", 1.0),
        ],
    },
];

/// Results of `model_similarity` and of its like.
const LIKENESS: &[Number] =
    &[Number::within("cka", "", -1.0, 1.0).noting("1: alike but for rotation and scale")];

/// What `model-similarity` gives.
pub(super) const MODEL_SIMILARITY: &[Gives] = &[
    Gives { table: "model_similarity", rows: &["other", "layer", "other_layer"], numbers: LIKENESS },
    Gives { table: "model_similarity_last", rows: &["other", "layer", "other_layer"], numbers: LIKENESS },
];

/// What `model-agreement` gives.
pub(super) const MODEL_AGREEMENT: &[Gives] = &[Gives {
    table: "model_agreement",
    rows: &["other", "layer", "other_layer"],
    numbers: &[Number::share("matched", "share of experts"), Number::share("plain", "share of experts")],
}];

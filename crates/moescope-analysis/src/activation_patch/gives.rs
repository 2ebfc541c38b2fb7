//! What the tables of `activation-patch` hold.
//!
//! The difference of the two texts is above half a nat in every case, so that shares have a denominator. A patch may lead beyond the other
//! text's prediction or away from it, so that they have no bounds; a divergence cannot fall below 0, so that no more than all of it can go.

use crate::instrument::{Gives, Number};

/// What `activation-patch` gives.
pub(super) const GIVES: &[Gives] = &[
    Gives { table: "activation_patch", rows: &["layer", "part"], numbers: &BOTH },
    Gives { table: "activation_patch_experts", rows: &["layer", "expert"], numbers: &BOTH },
    Gives { table: "activation_patch_stream", rows: &["layer", "place"], numbers: &BOTH },
    Gives { table: "activation_patch_parts", rows: &["layer", "part", "place", "what"], numbers: &BOTH },
    Gives { table: "activation_patch_heads", rows: &["layer", "head"], numbers: &BOTH },
    Gives { table: "activation_patch_routes", rows: &["prediction"], numbers: &BOTH },
    Gives { table: "activation_patch_cases", rows: &["prediction"], numbers: &TRIED },
];

const BOTH: [Number; 5] = [
    Number::any("denoised", "share of the way").noting("0: nothing comes back, 1: all"),
    Number::at_most("denoised_kl", "share of the divergence", 1.0),
    Number::any("noised", "share of the way").noting("0: nothing is lost, 1: all"),
    Number::at_most("noised_kl", "share of the divergence", 1.0),
    Number::at_least("cases", "pairs of texts", 4.0),
];

const TRIED: [Number; 7] = [
    Number::at_least("sequences", "sequences", 0.0),
    Number::up_to("cases", "sequences", 0.0, "sequences"),
    Number::up_to("same", "sequences", 0.0, "sequences"),
    Number::up_to("little", "sequences", 0.0, "sequences"),
    Number::up_to("without", "sequences", 0.0, "sequences"),
    Number::up_to("alone", "sequences", 0.0, "sequences"),
    Number::at_least("difference", "nats", 0.5),
];

//! What the tables of `routing`, `specialisation`, `paths`, `domain-probe` and `logit-lens` hold.
//!
//! Loads are shares of slots, their evenness counts experts: from one to all. Counted information is
//! never negative and never more than the entropy of the label, but its null is above 0, so that an
//! excess, and the shares that are made of it, fall below 0 where there is nothing to find; they never
//! exceed 1. The margin of a choice is negative where a router may not take the best expert, as routers
//! with groups do. Corrected entropies of paths may exceed what is possible.

use crate::instrument::{Gives, Number};

/// What `routing` gives.
pub(super) const ROUTING: &[Gives] = &[
    Gives {
        table: "routing_load",
        rows: &["layer"],
        numbers: &[
            Number::up_to("effective_experts", "experts", 1.0, "experts"),
            Number::up_to("max_over_mean", "ratio", 1.0, "experts"),
            Number::up_to("max_violation", "ratio", 0.0, "experts less one"),
            Number::at_least("variation", "ratio", 0.0).noting("0: even"),
            Number::share("gini", "ratio").noting("0: even"),
            Number::share("dead_share", "share of experts"),
        ],
    },
    Gives {
        table: "routing_load_by_expert",
        rows: &["layer", "expert"],
        numbers: &[Number::share("load", "share of routed slots")],
    },
    Gives {
        table: "routing_load_over_layers",
        rows: &["statistic"],
        numbers: &[
            Number::at_least("p50", "unit of the statistic", 0.0),
            Number::at_least("p75", "unit of the statistic", 0.0),
            Number::at_least("p90", "unit of the statistic", 0.0),
            Number::at_least("p95", "unit of the statistic", 0.0),
        ],
    },
    Gives {
        table: "routing_sharpness",
        rows: &["layer"],
        numbers: &[
            Number::up_to("entropy", "nats", 0.0, "ln(experts)"),
            Number::up_to("effective_choices", "experts", 1.0, "experts"),
            Number::any("margin", "selection score").noting("below 0: better ones were not allowed"),
            Number::share("near_ties", "share of tokens"),
        ],
    },
    Gives {
        table: "routing_near_ties",
        rows: &["layer"],
        numbers: &[Number::share("bf16", "share of tokens"), Number::share("f32", "share of tokens")],
    },
    Gives {
        table: "routing_coactivation",
        rows: &["layer"],
        numbers: &[
            Number::share("strongest_partner", "probability"),
            Number::within("strongest_partner_excess", "probability", -1.0, 1.0),
            Number::share("chance", "probability"),
        ],
    },
    Gives {
        table: "routing_coactivation_clusters",
        rows: &["expert", "partner"],
        numbers: &[Number::any("lift", "bits").noting("0: as often as the loads say")],
    },
    Gives {
        table: "routing_coactivation_pairs",
        rows: &["layer", "expert", "partner"],
        numbers: &[
            Number::share("conditional", "probability"),
            Number::any("pointwise_information", "bits").noting("0: as often as the loads say"),
        ],
    },
    Gives {
        table: "routing_locality",
        rows: &["layer"],
        numbers: &[
            Number::share("overlap", "share of experts"),
            Number::within("overlap_excess", "share of experts", -1.0, 1.0),
            Number::share("order_overlap", "share of experts"),
            Number::within("order_overlap_excess", "share of experts", -1.0, 1.0),
            Number::share("first_choice", "share of tokens"),
            Number::within("first_choice_excess", "share of tokens", -1.0, 1.0),
        ],
    },
];

/// What `specialisation` gives.
pub(super) const SPECIALISATION: &[Gives] = &[
    Gives {
        table: "specialisation",
        rows: &["label", "given", "exchanged", "layer"],
        numbers: &[
            Number::up_to("information", "bits per routed slot", 0.0, "label_entropy"),
            Number::any("information_excess", "bits per routed slot"),
            Number::at_most("share", "share of label entropy", 1.0),
            Number::at_most("adjusted_share", "share", 1.0),
            Number::at_least("label_entropy", "bits", 0.0),
        ],
    },
    Gives {
        table: "specialisation_lift",
        rows: &["domain", "expert"],
        numbers: &[Number::any("lift", "bits").noting("0: as often as elsewhere")],
    },
    Gives {
        table: "specialisation_by_domain",
        rows: &["layer", "domain", "expert"],
        numbers: &[
            Number::share("chosen", "share of tokens"),
            Number::any("lift", "bits").noting("0: as often as elsewhere"),
        ],
    },
    Gives {
        table: "specialisation_divergence",
        rows: &["side", "clusters", "layer"],
        numbers: &[
            Number::share("divergence", "bits"),
            Number::within("divergence_excess", "bits", -1.0, 1.0),
            Number::share("multinomial", "bits"),
            Number::within("beyond", "bits", -1.0, 1.0).noting("0: as slots drawn from the layer"),
        ],
    },
    Gives {
        table: "specialisation_divergence_by_expert",
        rows: &["side", "clusters", "layer", "expert"],
        numbers: &[Number::share("divergence", "bits")],
    },
];

/// Results of `paths_effective_number_sets` and of its like.
const PATHS_EFFECTIVE_NUMBER: &[Number] = &[
    Number::at_least("entropy", "bits", 0.0),
    Number::any("entropy_excess", "bits").noting("below 0: layers depend on each other"),
    Number::at_least("effective_number", "paths or sets", 1.0),
    Number::at_least("distinct", "paths or sets", 1.0),
    Number::up_to("entropy_plug_in", "bits", 0.0, "possible"),
    Number::share("coverage", "share of tokens"),
    Number::at_least("possible", "bits", 0.0),
];

/// Results of `paths_coverage_sets` and of its like.
const PATHS_COVERAGE: &[Number] =
    &[Number::share("covered", "share of tokens"), Number::share("covered_held_out", "share of tokens")];

/// Results of `paths_information_token` and of its like.
const PATHS_INFORMATION: &[Number] = &[
    Number::at_least("values", "values", 1.0),
    Number::up_to("information", "bits", 0.0, "the label's entropy"),
    Number::any("information_excess", "bits"),
    Number::at_most("share", "share of label entropy", 1.0),
    Number::at_most("adjusted_share", "share", 1.0),
];

/// What `paths` gives.
pub(super) const PATHS: &[Gives] = &[
    Gives { table: "paths_effective_number_sets", rows: &["kind", "unit"], numbers: PATHS_EFFECTIVE_NUMBER },
    Gives { table: "paths_coverage_sets", rows: &["kind", "unit", "most_used"], numbers: PATHS_COVERAGE },
    Gives {
        table: "paths_effective_number_first_choices",
        rows: &["kind", "unit"],
        numbers: PATHS_EFFECTIVE_NUMBER,
    },
    Gives {
        table: "paths_coverage_first_choices",
        rows: &["kind", "unit", "most_used"],
        numbers: PATHS_COVERAGE,
    },
    Gives { table: "paths_information_token", rows: &["label", "unit"], numbers: PATHS_INFORMATION },
    Gives { table: "paths_information_domain", rows: &["label", "unit"], numbers: PATHS_INFORMATION },
    Gives {
        table: "paths_cross_layer",
        rows: &["layer", "next_layer"],
        numbers: &[
            Number::at_least("information", "bits", 0.0),
            Number::any("information_excess", "bits"),
            Number::at_least("given_token", "bits", 0.0),
            Number::any("given_token_excess", "bits"),
            Number::at_most("adjusted_share", "share", 1.0),
        ],
    },
    Gives {
        table: "paths_flows",
        rows: &["layer", "expert", "next_layer", "next_expert"],
        numbers: &[Number::share("share", "share of tokens")],
    },
];

/// What `domain-probe` gives.
pub(super) const DOMAIN_PROBE: &[Gives] = &[
    Gives {
        table: "domain_probe",
        rows: &["layer", "label", "probe"],
        numbers: &[
            Number::share("accuracy", "share"),
            Number::share("control", "share"),
            Number::within("selectivity", "share", -1.0, 1.0),
            Number::at_most("log_likelihood", "nats", 0.0),
        ],
    },
    Gives {
        table: "domain_probe_length",
        rows: &["probe"],
        numbers: &[
            Number::at_least("bits", "bits per token", 0.0),
            Number::any("saved", "bits per token").noting("below 0: longer than by frequencies alone"),
            Number::at_least("control", "bits per token", 0.0),
        ],
    },
];

/// What `logit-lens` gives.
pub(super) const LOGIT_LENS: &[Gives] = &[
    Gives {
        table: "logit_lens",
        rows: &["layer"],
        numbers: &[Number::at_least("divergence", "nats", 0.0), Number::share("agreement", "share")],
    },
    Gives {
        table: "logit_lens_passage",
        rows: &["passage", "position", "token", "mark"],
        numbers: &[Number::share("probability", "probability")],
    },
];

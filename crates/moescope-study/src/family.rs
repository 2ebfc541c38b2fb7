//! Families of models: what a study compares.
//!
//! A comparison says something about routing only if nothing else differs. So every family is one line of difference
//! in [`Description`]: the feed-forward layer. Sizes are chosen so that sparse families equal the dense one in
//! active, and the wide one in total parameters.

use std::fmt;

use moescope_model::{Description, FeedForward, Routed, Router, RouterKind, Variation};
use serde::{Deserialize, Serialize};

use crate::StudyConfig;

/// A kind of model. All families of a study share attention, depth, width, data and schedule, and differ in the
/// feed-forward layer only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Dense, its width a multiple of the active width: 1 matches the sparse families in active, the expansion in
    /// total parameters.
    Dense {
        /// Multiple of `d_ff`.
        times: usize,
    },
    /// As wide as all experts together, of which only the `d_ff` largest activations pass: sparse, but without a
    /// router. It computes the whole width, so it costs the FLOPs of the wide model; what it controls for is
    /// sparsity, not speed.
    TopKDense,
    /// Routed, token choice, with a learned router: G of E·G experts for each token, each of width `d_ff` / G.
    Moe {
        /// Granularity in the Warsaw definition.
        granularity: usize,
    },
    /// The same with routing weights renormalised over the chosen experts: what the weighting does, apart from the
    /// choice. Its weights sum to 1, like those of the unlearned routes.
    Renormalised {
        /// Granularity, 2 or more: the weight of a single expert would be the constant 1.
        granularity: usize,
    },
    /// Routed by token id, through one fixed table for each layer: a choice without learning. The table is the same
    /// for every seed of a study, so intervals over seeds do not contain the luck of the table.
    Hash {
        /// Granularity.
        granularity: usize,
    },
    /// Routed by a router that is drawn once and never trained: a choice by content that cannot adapt. Drawn anew for
    /// each seed.
    Frozen {
        /// Granularity.
        granularity: usize,
    },
    /// Routed at random for each token, from a hash of its whole prefix: a choice that tells the experts nothing.
    Random {
        /// Granularity.
        granularity: usize,
    },
    /// Fine experts that can be chosen only in fixed groups: granular weights, coarse choice.
    /// The step from [`Family::Moe`] to this one removes nothing but the free combination of experts.
    Committee {
        /// Granularity.
        granularity: usize,
    },
}

impl Family {
    /// What the family is for, in a few words for tables and legends.
    pub fn meaning(self) -> &'static str {
        match self {
            Family::Dense { times: 1 } => "dense at the active width",
            Family::Dense { .. } => "dense, wider",
            Family::TopKDense => "wide, only the largest activations pass (sparse, unrouted)",
            Family::Moe { granularity: 1 } => "MoE, one coarse expert per token",
            Family::Moe { .. } => "granular MoE",
            Family::Renormalised { .. } => "granular MoE, weights of the chosen experts sum to 1",
            Family::Hash { .. } => "experts by token id",
            Family::Frozen { .. } => "random router, never trained",
            Family::Random { .. } => "experts at random for each token",
            Family::Committee { .. } => "fine experts in fixed groups",
        }
    }

    /// Whether tokens are routed to experts, by whatever rule.
    pub fn is_routed(self) -> bool {
        !matches!(self, Family::Dense { .. } | Family::TopKDense)
    }

    /// The model of this family in a study, for a vocabulary and a window length.
    ///
    /// The configuration is taken as checked ([`StudyConfig::check`]): a granularity that does not divide `d_ff`
    /// would be rounded down here. What no study varies (rotary base, normalisation, untied embeddings) is fixed.
    pub fn description(self, config: &StudyConfig, vocab: usize, positions: usize, seed: u64) -> Description {
        let sizes = &config.model;
        Description {
            vocab,
            d_model: sizes.d_model,
            heads: sizes.heads,
            key_value_heads: sizes.heads,
            head_dim: sizes.d_model / sizes.heads,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-6,
            max_positions: positions,
            tied_embeddings: false,
            qk_norm: true,
            feed_forward: vec![self.feed_forward(config, seed); sizes.layers],
            variation: Variation::default(),
        }
    }

    /// The feed-forward layer, the one thing in which families differ.
    fn feed_forward(self, config: &StudyConfig, seed: u64) -> FeedForward {
        let (d_ff, expansion) = (config.model.d_ff, config.model.expansion);
        match self {
            Family::Dense { times } => FeedForward::Dense { width: times * d_ff },
            Family::TopKDense => FeedForward::TopKDense { width: expansion * d_ff, active: d_ff },
            Family::Moe { granularity } => routed(config, granularity, RouterKind::Learned),
            Family::Renormalised { granularity } => weighted(config, granularity, RouterKind::Learned, true),
            Family::Hash { granularity } => routed(config, granularity, RouterKind::Hash { seed }),
            Family::Frozen { granularity } => routed(config, granularity, RouterKind::Frozen),
            Family::Random { granularity } => routed(config, granularity, RouterKind::Random { seed }),
            Family::Committee { granularity } => {
                routed(config, granularity, RouterKind::Committee { members: granularity })
            }
        }
    }
}

/// A routed layer whose weights are the raw softmax scores. They keep a gradient to the router even where one expert
/// is chosen; renormalised, the weight of a single expert is the constant 1 and granularity 1 would have an untrained
/// router.
fn routed(config: &StudyConfig, granularity: usize, kind: RouterKind) -> FeedForward {
    weighted(config, granularity, kind, false)
}

/// A routed layer of equal total and active width at every granularity. The router alone grows with the number of
/// experts, and is told apart in the parameter counts.
fn weighted(config: &StudyConfig, granularity: usize, kind: RouterKind, renormalise: bool) -> FeedForward {
    FeedForward::Routed(Routed {
        experts: config.model.expansion * granularity,
        expert_width: config.model.d_ff / granularity,
        per_token: granularity,
        router: Router { kind, ..Router::learned(renormalise) },
        shared: None,
    })
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Family::Dense { times } => write!(f, "dense-{times}x"),
            Family::TopKDense => f.write_str("topk-dense"),
            Family::Moe { granularity } => write!(f, "moe-g{granularity}"),
            Family::Renormalised { granularity } => write!(f, "renormalised-g{granularity}"),
            Family::Hash { granularity } => write!(f, "hash-g{granularity}"),
            Family::Frozen { granularity } => write!(f, "frozen-g{granularity}"),
            Family::Random { granularity } => write!(f, "random-g{granularity}"),
            Family::Committee { granularity } => write!(f, "committee-g{granularity}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(family: Family) -> moescope_model::Counts {
        let config = StudyConfig::parse(StudyConfig::preset_text("quick").unwrap(), "quick").unwrap();
        family.description(&config, 512, 64, 1).counts()
    }

    /// Parameters without the router, which granularity cannot keep constant.
    fn without_router(family: Family) -> (u64, u64) {
        let counts = counts(family);
        (counts.parameters_total - counts.router, counts.parameters_active - counts.router)
    }

    #[test]
    fn granularity_changes_neither_total_nor_active_parameters() {
        let coarse = without_router(Family::Moe { granularity: 1 });
        for granularity in [2, 4, 8] {
            assert_eq!(without_router(Family::Moe { granularity }), coarse);
            assert_eq!(without_router(Family::Renormalised { granularity }), coarse);
            assert_eq!(without_router(Family::Hash { granularity }), coarse);
            assert_eq!(without_router(Family::Committee { granularity }), coarse);
        }
    }

    #[test]
    fn moe_matches_dense_in_active_and_wide_in_total_parameters() {
        let (total, active) = without_router(Family::Moe { granularity: 4 });
        assert_eq!(active, counts(Family::Dense { times: 1 }).parameters_total);
        assert_eq!(total, counts(Family::Dense { times: 4 }).parameters_total);
        assert_eq!(total, counts(Family::TopKDense).parameters_total);
    }
}

//! What a model is, in numbers.

use moescope_base::{FeedForwardShape, SiteOptions, SubjectShape};
use moescope_host::require_memory;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::variation::{Pairs, Variation};

/// Everything that, with the weights, decides what a model computes.
///
/// A pre-norm decoder: RMSNorm, causal rotary attention (grouped keys and values, optional norm of each query and key head),
/// RMSNorm, SwiGLU feed-forward layer, dense or routed. What other families have instead is told in
/// [`variation`](Description::variation).
///
/// Sizes are numbers of entries, not bytes, and at most 2³⁰ (experts 2²⁰, blocks 2¹²). It says nothing about training: rates, losses and
/// schedules belong to a run, not to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub key_value_heads: usize,
    /// Coordinates of one head, even.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in every RMSNorm.
    ///
    /// One value for all norms, those of heads and the last included; it reaches the engine as `f32`.
    pub norm_epsilon: f64,
    /// Longest sequence that the model takes, in tokens.
    ///
    /// A longer sequence is refused, although the rotary turn could be worked out: the weights have never seen it.
    pub max_positions: usize,
    /// Whether the unembedding is the embedding table.
    pub tied_embeddings: bool,
    /// Whether queries and keys are normalised before the rotary turn.
    pub qk_norm: bool,
    /// One feed-forward layer for each block.
    ///
    /// Its length is the number of blocks. Layers may differ in kind and size.
    pub feed_forward: Vec<FeedForward>,
    /// How the model departs from this plain block; in nothing by default.
    #[serde(default, skip_serializing_if = "Variation::is_plain")]
    pub variation: Variation,
}

/// The feed-forward layer of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FeedForward {
    /// SwiGLU that every token passes through.
    Dense {
        /// Neurons.
        width: usize,
    },
    /// SwiGLU of which each token keeps only the neurons of largest magnitude: sparse, but not routed.
    ///
    /// The control for "sparse is enough": as few active neurons as a routed layer, but each chosen by its own value.
    /// It saves no arithmetic, since all neurons are computed first.
    TopKDense {
        /// Neurons.
        width: usize,
        /// Neurons that each token keeps.
        active: usize,
    },
    /// SwiGLU experts chosen by a router.
    Routed(Routed),
}

/// A layer of experts and its router.
///
/// Every expert has the same width; there is no capacity, and no token is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routed {
    /// Number of experts.
    pub experts: usize,
    /// Neurons of one expert.
    pub expert_width: usize,
    /// Experts that each token passes through.
    ///
    /// From 1 to `experts`; the same for every token.
    pub per_token: usize,
    /// How they are chosen and weighted.
    pub router: Router,
    /// An expert that every token passes through besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
}

/// An expert that every token of a routed layer passes through; several of them are one wide one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Neurons.
    pub width: usize,
    /// Whether its output is weighted by a sigmoid of a trained linear map of the token; by one otherwise.
    pub weighted: bool,
}

/// How the experts of a token are chosen and weighted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    /// Where the choice comes from.
    pub kind: RouterKind,
    /// From logits to scores.
    pub score: Score,
    /// Whether scores are taken over all experts or over the chosen.
    pub order: Order,
    /// Whether the weights of the chosen are divided by their sum.
    ///
    /// Without it, the softmax scores of the chosen sum to less than one; the first weights of the layer make up for that.
    pub renormalise: bool,
    /// Groups of experts among which a token chooses first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// Multiplies the weights, last of all.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub scale: f64,
    /// How near a logit must come to the chosen one to compete with it; of meaning with [`Order::OneByOne`] alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tolerance: f64,
}

/// Consecutive groups of experts: a token chooses groups first, then experts of these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Number of groups, a divisor of the number of experts.
    pub count: usize,
    /// Groups that a token chooses.
    pub chosen: usize,
    /// A group is as good as the sum of so many of its best experts.
    pub best: usize,
}

/// What a scale is where a file does not say it.
fn one() -> f64 {
    1.0
}

/// Whether a scale changes nothing, so that it need not be written.
fn is_one(number: &f64) -> bool {
    *number == 1.0
}

/// Whether a tolerance changes nothing, so that it need not be written.
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// Where the choice of experts comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RouterKind {
    /// A trained linear map of the token's representation.
    Learned,
    /// The same map, left as it was initialised.
    ///
    /// The control for "learned routing matters": it still sends alike tokens to alike experts.
    Frozen,
    /// A seeded function of token id and layer; weights `1 / per_token`; no scores. Source: Roller et al. 2021.
    Hash {
        /// Seed of the function.
        seed: u64,
    },
    /// A seeded function of the whole prefix, the layer and the pass's salt; weights `1 / per_token`; no scores.
    ///
    /// In training the salt is the step, so one prefix meets other experts each time. The control for "any consistent
    /// routing is enough".
    Random {
        /// Seed of the function.
        seed: u64,
    },
    /// A trained linear map, but only fixed teams can be chosen: expert `e` belongs to team `e / members`, and the team with
    /// the largest sum of scores is chosen. Each member is weighted by its own score.
    Committee {
        /// Experts of one team; equals `per_token`.
        members: usize,
    },
}

/// From router logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Over all experts, or over the chosen: see [`Order`].
    Softmax,
    /// Each expert for itself.
    ///
    /// Scores of a token then have no fixed sum.
    Sigmoid,
}

/// Which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Scores over all experts; the best are chosen and weighted by their score.
    ScoreThenSelect,
    /// The largest logits are chosen; scores over these alone are the weights.
    ///
    /// With softmax the weights sum to one without [`Router::renormalise`].
    SelectThenScore,
    /// The largest logits are chosen, two of them; each is weighted by a softmax over those that come near it, the second among
    /// those that are left, as PhiMoE does: see [`Tape::sparse_mixer`](moescope_engine::Tape::sparse_mixer).
    OneByOne,
}

impl RouterKind {
    /// Whether the router has logits and scores.
    pub fn scores(self) -> bool {
        !matches!(self, RouterKind::Hash { .. } | RouterKind::Random { .. })
    }

    /// Whether the router has weights that training changes.
    pub fn trained(self) -> bool {
        matches!(self, RouterKind::Learned | RouterKind::Committee { .. })
    }
}

impl Router {
    /// A trained router: softmax over all experts, the best chosen, weights as scored or divided by their sum.
    pub fn learned(renormalise: bool) -> Router {
        Router {
            kind: RouterKind::Learned,
            score: Score::Softmax,
            order: Order::ScoreThenSelect,
            renormalise,
            groups: None,
            scale: 1.0,
            tolerance: 0.0,
        }
    }
}

impl FeedForward {
    /// The routed layer, if it is one.
    pub fn routed(&self) -> Option<&Routed> {
        match self {
            FeedForward::Routed(routed) => Some(routed),
            _ => None,
        }
    }
}

impl Description {
    /// Most blocks that a model may have: far above any model, and few enough that a list of them is no burden.
    pub const MOST_LAYERS: usize = 1 << 12;

    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.feed_forward.len()
    }

    /// Sizes that an analysis needs.
    pub fn subject_shape(&self) -> SubjectShape {
        let shape = |layer: &FeedForward| match layer {
            FeedForward::Dense { width } | FeedForward::TopKDense { width, .. } => {
                FeedForwardShape::Dense { width: *width }
            }
            FeedForward::Routed(routed) => FeedForwardShape::Routed {
                experts: routed.experts,
                per_token: routed.per_token,
                expert_width: routed.expert_width,
            },
        };
        SubjectShape {
            d_model: self.d_model,
            vocab: self.vocab,
            heads: self.heads,
            head_dim: self.head_dim,
            feed_forward: self.feed_forward.iter().map(shape).collect(),
            options: self.site_options(),
        }
    }

    /// Which sites the model has besides those of every model, or lacks.
    pub(crate) fn site_options(&self) -> SiteOptions {
        let shared = self.feed_forward.iter().filter_map(FeedForward::routed).find_map(|r| r.shared);
        SiteOptions {
            learned_positions: self.variation.turning().is_none(),
            query_experts: self.variation.attention.query_experts.is_some(),
            plain_reads: !self.variation.norm_placement.before(),
            ungated: !self.variation.neuron.gated(),
            shared_expert: shared.is_some(),
            weighted_shared_expert: shared.is_some_and(|shared| shared.weighted),
        }
    }

    /// Refuses weights that this machine cannot hold, before memory is asked for.
    ///
    /// # Errors
    /// [`ModelError::Host`] with both sizes.
    pub fn require_memory(&self) -> Result<(), ModelError> {
        let parameters = self.counts().parameters_total as f64;
        let what = format!("the weights of a model of {parameters:.2e} parameters");
        Ok(require_memory(&what, 4.0 * parameters, "take a smaller model, or a machine with more memory")?)
    }

    /// Heads are normalised in one go with the turn of all their coordinates by halves. Elsewhere the norm would be left out, and the
    /// model would compute something else without a word.
    fn check_head_norms(&self) -> Result<(), ModelError> {
        let attention = &self.variation.attention;
        let turns_whole =
            self.variation.turning().is_some_and(|t| t.dimensions.is_none() && t.pairs == Pairs::Halves);
        if !self.qk_norm || attention.wide_qk_norm || (turns_whole && attention.latent.is_none()) {
            return Ok(());
        }
        let wanted = "no norm of single heads, or a turn of whole heads by halves without a latent";
        Err(ModelError::description("qk_norm", true, wanted))
    }

    /// Refuses sizes that make no model.
    ///
    /// # Errors
    /// [`ModelError::Description`] for the first size or option that does not fit.
    pub fn check(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab", self.vocab),
            ("d_model", self.d_model),
            ("heads", self.heads),
            ("key_value_heads", self.key_value_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
        ];
        for (what, size) in sizes {
            // A limit far above any model keeps products of sizes from overflowing.
            within(what, size, 1, 1 << 30)?;
        }
        check_layers(self.layers())?;
        if !self.heads.is_multiple_of(self.key_value_heads) {
            let wanted = format!("a divisor of the {} heads", self.heads);
            return Err(ModelError::description("key_value_heads", self.key_value_heads, wanted));
        }
        if self.variation.attention.latent.is_some() && self.key_value_heads != self.heads {
            let wanted = format!("{}, as many as query heads: a latent has no other", self.heads);
            return Err(ModelError::description("key_value_heads", self.key_value_heads, wanted));
        }
        if let Some(chosen) = self.variation.attention.query_experts
            && self.heads != self.key_value_heads * chosen.per_token
        {
            let wanted = format!("{} for each of {} chosen experts", self.key_value_heads, chosen.per_token);
            return Err(ModelError::description("heads", self.heads, wanted));
        }
        positive("rope_theta", self.rope_theta)?;
        positive("norm_epsilon", self.norm_epsilon)?;
        self.check_head_norms()?;
        self.variation.check(self.head_dim, self.layers())?;
        self.feed_forward.iter().enumerate().try_for_each(|(layer, shape)| shape.check(layer))
    }
}

impl FeedForward {
    /// Refuses sizes of one layer; `layer` is for the message.
    fn check(&self, layer: usize) -> Result<(), ModelError> {
        let name = |what: &str| format!("layer {layer}: {what}");
        match self {
            FeedForward::Dense { width } => within(&name("width"), *width, 1, 1 << 30),
            FeedForward::TopKDense { width, active } => {
                within(&name("width"), *width, 1, 1 << 30)?;
                within(&name("active"), *active, 1, *width)
            }
            FeedForward::Routed(routed) => {
                within(&name("experts"), routed.experts, 1, 1 << 20)?;
                within(&name("expert_width"), routed.expert_width, 1, 1 << 30)?;
                within(&name("per_token"), routed.per_token, 1, routed.experts)?;
                if let Some(shared) = routed.shared {
                    within(&name("shared width"), shared.width, 1, 1 << 30)?;
                }
                routed.check_router(&name)?;
                routed.check_committees(&name)
            }
        }
    }
}

impl Routed {
    /// Groups must share out the experts and leave enough of them; mixing one by one is for two.
    fn check_router(&self, name: &dyn Fn(&str) -> String) -> Result<(), ModelError> {
        let router = &self.router;
        positive(&name("router scale"), router.scale)?;
        if router.order == Order::OneByOne && self.per_token != 2 {
            let wanted = "2, as many as are weighted one by one";
            return Err(ModelError::description(name("per_token"), self.per_token, wanted));
        }
        let Some(groups) = router.groups else { return Ok(()) };
        within(&name("groups"), groups.count, 1, self.experts)?;
        if !self.experts.is_multiple_of(groups.count) {
            let wanted = format!("a divisor of the {} experts", self.experts);
            return Err(ModelError::description(name("groups"), groups.count, wanted));
        }
        within(&name("chosen groups"), groups.chosen, 1, groups.count)?;
        let size = self.experts / groups.count;
        within(&name("best experts of a group"), groups.best, 1, size)?;
        within(&name("per_token"), self.per_token, 1, groups.chosen * size)
    }

    /// A committee must be a whole team of `per_token` experts, and teams must use up all experts.
    fn check_committees(&self, name: &dyn Fn(&str) -> String) -> Result<(), ModelError> {
        let RouterKind::Committee { members } = self.router.kind else { return Ok(()) };
        if members != self.per_token {
            let wanted = format!("per_token, {}", self.per_token);
            return Err(ModelError::description(name("committee members"), members, wanted));
        }
        if !self.experts.is_multiple_of(members) {
            let wanted = format!("a multiple of the {members} members");
            return Err(ModelError::description(name("experts"), self.experts, wanted));
        }
        Ok(())
    }
}

/// Refuses a number of blocks before there is a list of them.
pub(crate) fn check_layers(layers: usize) -> Result<(), ModelError> {
    within("number of layers", layers, 1, Description::MOST_LAYERS)
}

/// Refuses a size outside `low..=high`.
pub(crate) fn within(what: &str, found: usize, low: usize, high: usize) -> Result<(), ModelError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(ModelError::description(what, found, format!("{low} to {high}")))
}

/// Refuses zero, negative numbers, infinity and not-a-number.
pub(crate) fn positive(what: &str, found: f64) -> Result<(), ModelError> {
    if found.is_finite() && found > 0.0 {
        return Ok(());
    }
    Err(ModelError::description(what, found, "a positive number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::variation::{Positions, Turning};

    #[test]
    fn a_sound_description_passes_and_survives_json() {
        let description = testing::routed_description(Router::learned(false));
        description.check().unwrap();
        let json = serde_json::to_string(&description).unwrap();
        assert_eq!(serde_json::from_str::<Description>(&json).unwrap(), description);
    }

    #[test]
    fn weights_beyond_any_machine_are_refused_with_both_sizes() {
        let mut description = testing::dense_description();
        description.require_memory().unwrap();
        (description.vocab, description.d_model, description.heads) = (1 << 30, 1 << 30, 1 << 30);
        let error = description.require_memory().unwrap_err().to_string();
        assert!(error.contains("parameters would take") && error.contains("this machine has"), "{error}");
    }

    #[test]
    fn unsound_sizes_are_named() {
        let refuse = |change: &dyn Fn(&mut Description), what: &str| {
            let mut description = testing::routed_description(Router::learned(false));
            change(&mut description);
            let error = description.check().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        refuse(&|d| d.key_value_heads = 3, "key_value_heads");
        refuse(&|d| d.head_dim = 3, "head_dim");
        refuse(&|d| d.norm_epsilon = 0.0, "norm_epsilon");
        refuse(&|d| d.variation.positions = Positions::Learned, "qk_norm");
        let part = Turning { dimensions: Some(2), ..Turning::default() };
        refuse(&|d| d.variation.positions = Positions::Rotary(part.clone()), "qk_norm");
        refuse(&|d| d.feed_forward.clear(), "number of layers");
        refuse(&|d| d.feed_forward = vec![FeedForward::Dense { width: 1 }; 1 << 13], "number of layers");
        refuse(&|d| d.feed_forward[1] = FeedForward::TopKDense { width: 4, active: 5 }, "layer 1: active");
        let committee = Router { kind: RouterKind::Committee { members: 3 }, ..Router::learned(false) };
        refuse(
            &|d| {
                let routed = Routed {
                    experts: 6,
                    expert_width: 2,
                    per_token: 2,
                    router: committee.clone(),
                    shared: None,
                };
                d.feed_forward[0] = FeedForward::Routed(routed);
            },
            "committee members",
        );
    }
}

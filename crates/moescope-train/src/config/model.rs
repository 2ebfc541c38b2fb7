use std::ops::Range;

use moescope_model::{Description, FeedForward, Order, Routed, Router, RouterKind, Score, Variation};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::sizes::{SizeKeys, Sizes};
use super::syntax::Problem;

/// The model of a run; the vocabulary comes from the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; as many as query heads unless given.
    pub key_value_heads: usize,
    /// Coordinates of one head; `d_model / heads` unless given.
    pub head_dim: usize,
    /// Base of the rotary frequencies; 10,000 unless given.
    pub rope_theta: f64,
    /// Added to the mean square in every norm; 1e-6 unless given.
    pub norm_epsilon: f64,
    /// Whether the unembedding is the embedding; not so unless given.
    pub tied_embeddings: bool,
    /// Whether queries and keys are normalised per head; so unless given.
    pub qk_norm: bool,
    /// Feed-forward layer of every block.
    pub feed_forward: FeedForward,
}

impl ModelConfig {
    /// The model for a vocabulary and a longest sequence.
    pub fn description(&self, vocab: usize, positions: usize) -> Description {
        Description {
            vocab,
            d_model: self.d_model,
            heads: self.heads,
            key_value_heads: self.key_value_heads,
            head_dim: self.head_dim,
            rope_theta: self.rope_theta,
            norm_epsilon: self.norm_epsilon,
            max_positions: positions,
            tied_embeddings: self.tied_embeddings,
            qk_norm: self.qk_norm,
            feed_forward: vec![self.feed_forward.clone(); self.layers],
            variation: Variation::default(),
        }
    }
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    family: Spanned<Family>,
    d_model: Spanned<usize>,
    layers: Spanned<usize>,
    heads: Spanned<usize>,
    key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rope_theta: Option<f64>,
    norm_epsilon: Option<f64>,
    tied_embeddings: Option<bool>,
    qk_norm: Option<bool>,
    d_ff: Option<Spanned<usize>>,
    expansion: Option<Spanned<usize>>,
    granularity: Option<Spanned<usize>>,
    experts: Option<Spanned<usize>>,
    expert_width: Option<Spanned<usize>>,
    per_token: Option<Spanned<usize>>,
    total_width: Option<Spanned<usize>>,
    active_share: Option<Spanned<f64>>,
    score: Option<Spanned<ScoreName>>,
    order: Option<Spanned<OrderName>>,
    renormalise: Option<Spanned<bool>>,
    router_seed: Option<Spanned<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Family {
    Dense,
    Wide,
    #[serde(rename = "topk-dense")]
    TopKDense,
    Moe,
    Hash,
    Frozen,
    Random,
    Committee,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ScoreName {
    Softmax,
    Sigmoid,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OrderName {
    ScoreThenSelect,
    SelectThenScore,
}

impl Family {
    /// Whether the router is a linear map with scores, so that score, order and renormalisation mean something.
    fn has_scores(self) -> bool {
        matches!(self, Family::Moe | Family::Frozen | Family::Committee)
    }

    /// Whether the router draws from a seed of its own.
    fn has_seed(self) -> bool {
        matches!(self, Family::Hash | Family::Random)
    }
}

impl Section {
    pub(super) fn check(self, section: &Range<usize>, seed: u64) -> Result<ModelConfig, Problem> {
        let (heads, d_model) = (*self.heads.get_ref(), *self.d_model.get_ref());
        for (name, key) in [("d_model", &self.d_model), ("layers", &self.layers), ("heads", &self.heads)] {
            super::at_least(key, name, 1)?;
        }
        let (layers, most) = (*self.layers.get_ref(), Description::MOST_LAYERS);
        if layers > most {
            return Err(Problem::new(
                self.layers.span(),
                format!("`layers` is {layers}, wanted 1 to {most}"),
            ));
        }
        if self.head_dim.is_none() && !d_model.is_multiple_of(heads) {
            let problem =
                format!("`heads` is {heads}, which does not divide `d_model` = {d_model}; wanted a divisor");
            return Err(Problem::new(self.heads.span(), format!("{problem}, or `head_dim`")));
        }
        self.refuse_idle_router_keys()?;
        Ok(ModelConfig {
            d_model,
            layers,
            heads,
            key_value_heads: self.key_value_heads.unwrap_or(heads),
            head_dim: self.head_dim.unwrap_or(d_model / heads),
            rope_theta: self.rope_theta.unwrap_or(10_000.0),
            norm_epsilon: self.norm_epsilon.unwrap_or(1e-6),
            tied_embeddings: self.tied_embeddings.unwrap_or(false),
            qk_norm: self.qk_norm.unwrap_or(true),
            feed_forward: self.feed_forward(section, seed)?,
        })
    }

    fn refuse_idle_router_keys(&self) -> Result<(), Problem> {
        let family = *self.family.get_ref();
        let scored = [
            ("score", self.score.as_ref().map(Spanned::span)),
            ("order", self.order.as_ref().map(Spanned::span)),
            ("renormalise", self.renormalise.as_ref().map(Spanned::span)),
        ];
        let seeded = [("router_seed", self.router_seed.as_ref().map(Spanned::span))];
        let idle = scored
            .iter()
            .filter(|_| !family.has_scores())
            .chain(seeded.iter().filter(|_| !family.has_seed()));
        for (name, span) in idle {
            if let Some(span) = span {
                let problem = format!("`{name}` means nothing in the family {family:?}; remove it");
                return Err(Problem::new(span.clone(), problem));
            }
        }
        Ok(())
    }

    fn feed_forward(self, section: &Range<usize>, seed: u64) -> Result<FeedForward, Problem> {
        let family = *self.family.get_ref();
        let router = self.router(family, seed);
        let keys = SizeKeys {
            d_ff: self.d_ff,
            expansion: self.expansion,
            granularity: self.granularity,
            experts: self.experts,
            expert_width: self.expert_width,
            per_token: self.per_token,
            total_width: self.total_width,
            active_share: self.active_share,
        };
        let Sizes { active, total, experts } = keys.resolve(section)?;
        match family {
            Family::Dense => Ok(FeedForward::Dense { width: active }),
            Family::Wide => {
                total.map(|width| FeedForward::Dense { width }).ok_or_else(|| no_total(&self.family))
            }
            Family::TopKDense => total
                .map(|width| FeedForward::TopKDense { width, active })
                .ok_or_else(|| no_total(&self.family)),
            _ => {
                let sizes = experts.ok_or_else(|| keys.incomplete(section))?;
                Ok(FeedForward::Routed(Routed {
                    experts: sizes.experts,
                    expert_width: sizes.expert_width,
                    per_token: sizes.per_token,
                    router: router(sizes.per_token),
                    shared: None,
                }))
            }
        }
    }

    /// The router of a family, given the experts per token.
    ///
    /// Raw softmax weights are the default: renormalised, the weight of a single expert is the constant 1, and a router with
    /// one expert per token would never learn.
    fn router(&self, family: Family, seed: u64) -> impl Fn(usize) -> Router + use<> {
        let score = match self.score.as_ref().map(|score| *score.get_ref()) {
            Some(ScoreName::Sigmoid) => Score::Sigmoid,
            Some(ScoreName::Softmax) | None => Score::Softmax,
        };
        let order = match self.order.as_ref().map(|order| *order.get_ref()) {
            Some(OrderName::SelectThenScore) => Order::SelectThenScore,
            Some(OrderName::ScoreThenSelect) | None => Order::ScoreThenSelect,
        };
        let renormalise = self.renormalise.as_ref().is_some_and(|renormalise| *renormalise.get_ref());
        let seed = self.router_seed.as_ref().map_or(seed, |seed| *seed.get_ref());
        move |members| {
            let kind = match family {
                Family::Hash => RouterKind::Hash { seed },
                Family::Frozen => RouterKind::Frozen,
                Family::Random => RouterKind::Random { seed },
                Family::Committee => RouterKind::Committee { members },
                _ => RouterKind::Learned,
            };
            Router { kind, score, order, ..Router::learned(renormalise) }
        }
    }
}

fn no_total(family: &Spanned<Family>) -> Problem {
    let found = family.get_ref();
    Problem::new(
        family.span(),
        format!("the family {found:?} is wider than `d_ff`; give `expansion` as well"),
    )
}

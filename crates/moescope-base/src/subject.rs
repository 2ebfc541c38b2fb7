use std::collections::BTreeMap;

use crate::{Edit, HookError, HookPoint, Objective, Parameters, Site, Tokens, Value};

/// What an analysis may ask of a model, whatever the model is.
pub trait Subject {
    /// Sizes of the model.
    fn shape(&self) -> &SubjectShape;

    /// Runs the one forward pass, with edits, and reports what was asked for.
    ///
    /// Without edits the losses do not depend, bit for bit, on what is recorded.
    ///
    /// # Errors
    /// If a hook point does not exist in the model, an edit cannot take effect, or the tokens do not fit.
    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError>;

    /// Next-token logits that the final norm and unembedding read from residual-stream vectors.
    ///
    /// - **Shape:** `residual[row, d_model]` → `[row, vocab]`.
    ///
    /// # Errors
    /// If the vectors do not have the model's width.
    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError>;

    /// The weights of the routed layers; none of a subject that has none to show.
    fn parameters(&mut self) -> Option<&mut dyn Parameters> {
        None
    }
}

/// A subject of whatever kind, owned.
impl<S: Subject + ?Sized> Subject for Box<S> {
    fn shape(&self) -> &SubjectShape {
        (**self).shape()
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        (**self).run(request)
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        (**self).unembed(residual)
    }

    fn parameters(&mut self) -> Option<&mut dyn Parameters> {
        (**self).parameters()
    }
}

/// One question to a [`Subject`].
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Input.
    pub tokens: &'a Tokens,
    /// Values to report.
    pub record: &'a [HookPoint],
    /// Changes inside the pass, in order.
    pub edits: &'a [Edit],
    /// Points at which to report the gradient of the objective.
    pub gradients: &'a [HookPoint],
    /// What is differentiated; of meaning with `gradients` alone.
    pub objective: Objective<'a>,
    /// Where the pass may end.
    pub end: PassEnd,
}

/// Where a pass may end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassEnd {
    /// After the losses.
    #[default]
    Losses,
    /// As soon as everything that is recorded is known and every edit was made; losses may be left out. What is recorded is the same to the bit. A pass with
    /// gradients is whole all the same.
    ///
    /// The unembedding alone can be a good part of a pass, and of what is recorded in early blocks the rest of the model knows nothing.
    Recorded,
}

impl<'a> Request<'a> {
    /// A plain pass that reports nothing but the losses.
    pub fn of(tokens: &'a Tokens) -> Request<'a> {
        let (objective, end) = (Objective::Loss, PassEnd::Losses);
        Request { tokens, record: &[], edits: &[], gradients: &[], objective, end }
    }

    /// A pass that reports these values, and no losses.
    pub fn recording(tokens: &'a Tokens, record: &'a [HookPoint]) -> Request<'a> {
        Request { record, end: PassEnd::Recorded, ..Request::of(tokens) }
    }
}

/// What a [`Subject`] reports.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Recorded values.
    pub values: BTreeMap<HookPoint, Value>,
    /// Gradients of the objective: by default of the **sum** over all tokens of the next-token loss, in nats per unit of the
    /// value.
    pub gradients: BTreeMap<HookPoint, Value>,
    /// Next-token cross-entropy in nats, `[batch, pos - 1]`; may be empty where the pass [ends](PassEnd) before the losses.
    pub loss: Vec<f32>,
}

/// Sizes of a model that an analysis needs.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectShape {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Attention heads.
    pub heads: usize,
    /// Coordinates of one head.
    pub head_dim: usize,
    /// Feed-forward layer of each block.
    pub feed_forward: Vec<FeedForwardShape>,
    /// Which sites the model has besides those of every model, or lacks.
    pub options: SiteOptions,
}

/// Which sites a model has besides those of every model, or lacks; the default is the plain model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteOptions {
    /// A position embedding is added to that of the token.
    pub learned_positions: bool,
    /// Queries are those of chosen experts; what a head adds is then weighted and summed by expert, not by head.
    pub query_experts: bool,
    /// The halves of a block read the stream without a norm before.
    pub plain_reads: bool,
    /// The feed-forward layers have no linear branch beside the gate.
    pub ungated: bool,
    /// Routed layers have an expert that all tokens share.
    pub shared_expert: bool,
    /// That expert has a weight.
    pub weighted_shared_expert: bool,
}

impl SiteOptions {
    /// Whether a model with these options has the site, where its layer would have it.
    pub fn has(&self, site: Site) -> bool {
        match site {
            Site::PosEmbed => self.learned_positions,
            Site::AttnRouterLogits | Site::AttnRouterIndices | Site::AttnRouterWeights => self.query_experts,
            Site::AttnResult => !self.query_experts,
            Site::AttnScale | Site::MlpScale => !self.plain_reads,
            Site::MlpPreLinear | Site::ExpertPre => !self.ungated,
            Site::SharedPre => self.shared_expert && !self.ungated,
            Site::SharedWeight => self.weighted_shared_expert,
            site if site.in_shared_expert() => self.shared_expert,
            _ => true,
        }
    }
}

/// Sizes of one feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForwardShape {
    /// One layer that every token passes through.
    Dense {
        /// Neurons.
        width: usize,
    },
    /// Experts of which each token passes through some.
    Routed {
        /// Number of experts.
        experts: usize,
        /// Experts that a token chooses.
        per_token: usize,
        /// Neurons of one expert.
        expert_width: usize,
    },
}

impl SubjectShape {
    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.feed_forward.len()
    }

    /// Blocks whose feed-forward layer is routed.
    pub fn routed_layers(&self) -> Vec<usize> {
        (0..self.layers())
            .filter(|l| matches!(self.feed_forward[*l], FeedForwardShape::Routed { .. }))
            .collect()
    }

    /// Every hook point of the model, in the order of the forward pass.
    pub fn hook_points(&self) -> Vec<HookPoint> {
        let mut points = vec![HookPoint::global(Site::Embed)];
        points.extend(self.options.learned_positions.then(|| HookPoint::global(Site::PosEmbed)));
        for (layer, feed_forward) in self.feed_forward.iter().enumerate() {
            points.extend(block_points(layer, feed_forward, self.options));
        }
        let last = [Site::FinalScale, Site::FinalNormalized, Site::Logits];
        points.extend(last.map(HookPoint::global));
        points
    }
}

fn block_points(layer: usize, feed_forward: &FeedForwardShape, options: SiteOptions) -> Vec<HookPoint> {
    let experts = match feed_forward {
        FeedForwardShape::Dense { .. } => 0,
        FeedForwardShape::Routed { experts, .. } => *experts,
    };
    let exists = |site: &Site| if experts > 0 { !site.dense_only() } else { !site.routed_only() };
    let sites: Vec<Site> =
        Site::ALL.into_iter().filter(|s| s.in_block() && exists(s) && options.has(*s)).collect();
    let before = sites.iter().filter(|s| !s.in_expert() && **s < Site::ExpertGate);
    let after = sites.iter().filter(|s| **s > Site::ExpertOutWeighted);
    let inside = (0..experts).flat_map(|expert| {
        sites.iter().filter(|s| s.in_expert()).map(move |site| HookPoint::expert(*site, layer, expert))
    });
    let plain = |site: &Site| HookPoint::block(*site, layer);
    before.map(plain).chain(inside).chain(after.map(plain)).collect()
}

/// Why a model could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// A hook point that this model does not have.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// An edit that cannot take effect.
    #[error("the edit at {at} cannot take effect: {reason}")]
    Edit {
        /// Hook point or layer.
        at: String,
        /// What was found and wanted.
        reason: String,
    },
    /// Token ids, lengths or vectors that the model cannot take.
    #[error("the input does not fit the model: {reason}")]
    Input {
        /// What was found and wanted.
        reason: String,
    },
    /// The computation itself failed.
    #[error("the forward pass failed: {0}")]
    Compute(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> SubjectShape {
        SubjectShape {
            d_model: 8,
            vocab: 16,
            heads: 2,
            head_dim: 4,
            feed_forward: vec![
                FeedForwardShape::Dense { width: 32 },
                FeedForwardShape::Routed { experts: 3, per_token: 2, expert_width: 4 },
            ],
            options: SiteOptions::default(),
        }
    }

    #[test]
    fn what_only_some_models_have_is_listed_for_these_alone() {
        let listed = |options: SiteOptions| {
            let points = SubjectShape { options, ..shape() }.hook_points();
            points.iter().map(HookPoint::to_string).collect::<Vec<_>>()
        };
        let plain = listed(SiteOptions::default());
        assert!(!plain.iter().any(|n| n.contains("shared") || n == "hook_pos_embed"));
        let shared = SiteOptions { shared_expert: true, ..SiteOptions::default() };
        assert!(listed(shared).contains(&"blocks.1.mlp.shared.hook_out".into()));
        assert!(
            !listed(shared).iter().any(|n| n.ends_with("shared.hook_weight") || n.contains("0.mlp.shared"))
        );
        let old = SiteOptions { learned_positions: true, ungated: true, ..SiteOptions::default() };
        assert!(listed(old).contains(&"hook_pos_embed".into()));
        assert!(!listed(old).iter().any(|n| n.ends_with("hook_pre_linear")));
    }

    #[test]
    fn a_dense_layer_has_no_router_and_a_routed_one_no_dense_neurons() {
        let names: Vec<String> = shape().hook_points().iter().map(HookPoint::to_string).collect();
        assert!(names.contains(&"blocks.0.mlp.hook_post".into()));
        assert!(!names.iter().any(|n| n.starts_with("blocks.0.mlp.router")));
        assert!(!names.contains(&"blocks.1.mlp.hook_post".into()));
        assert!(names.contains(&"blocks.1.mlp.experts.2.hook_out".into()));
    }

    #[test]
    fn hook_points_are_distinct_and_parse() {
        let points = shape().hook_points();
        let distinct: std::collections::BTreeSet<_> = points.iter().collect();
        assert_eq!(distinct.len(), points.len());
        assert!(points.iter().all(|p| p.to_string().parse::<HookPoint>() == Ok(*p)));
    }
}

use crate::Axis;
use serde::{Deserialize, Serialize};

/// A kind of place inside a transformer where a value can be read, and often replaced.
///
/// Together with a layer, and for single experts an expert, it makes a [`HookPoint`](crate::HookPoint).
/// Names follow TransformerLens where it has one; router and expert names extend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// Token embedding.
    Embed,
    /// Vector of the position that is added to the token embedding, where positions are learned.
    PosEmbed,
    /// Residual stream entering a block.
    ResidPre,
    /// Denominator of the norm before attention: the root of the mean square, or of the variance, of the stream plus epsilon.
    AttnScale,
    /// What attention reads: the stream after the norm before it, if there is one.
    AttnIn,
    /// Logits of the router of attention, where queries are those of chosen experts.
    AttnRouterLogits,
    /// Experts that the router of attention chose, the largest weight first.
    AttnRouterIndices,
    /// Weights of these experts as applied, in the order of the indices.
    AttnRouterWeights,
    /// Query vectors after norm and rotary embedding.
    AttnQ,
    /// Key vectors after norm and rotary embedding.
    AttnK,
    /// Value vectors.
    AttnV,
    /// Scores of queries and keys before the softmax: scaled, capped where the model does so, and minus infinity where a query
    /// does not see a key.
    AttnScores,
    /// Attention probabilities. With sinks they sum to less than one.
    AttnPattern,
    /// Mixed values before the output projection.
    AttnZ,
    /// What each head adds: its mixed values times its part of the output projection. Over all heads, with the projection's bias if it
    /// has one, these sum to what attention adds; where that is normalised or scaled once more, to what it is before.
    AttnResult,
    /// What attention adds to the residual stream.
    AttnOut,
    /// Residual stream between attention and feed-forward. In a parallel block it is the stream with what attention has added,
    /// and the feed-forward layer does not read it.
    ResidMid,
    /// Denominator of the norm before the feed-forward layer.
    MlpScale,
    /// Normalised input of the feed-forward layer or of the router and experts.
    MlpIn,
    /// Gate pre-activation of a dense feed-forward layer.
    MlpPre,
    /// Linear (up) branch of a dense feed-forward layer.
    MlpPreLinear,
    /// Hidden activation of a dense feed-forward layer, after the gate (and after top-k selection if it has one).
    MlpPost,
    /// What the router of experts reads, apart from what the experts read: an edit here moves the choice and the weights alone.
    RouterIn,
    /// Raw router scores, before anything.
    RouterLogits,
    /// Router scores after softmax or sigmoid over all experts.
    RouterScores,
    /// What the top-k choice sees: scores plus selection bias.
    RouterSelect,
    /// Chosen experts, the largest weight first.
    RouterIndices,
    /// Weights of the chosen experts as applied, in the order of the indices.
    RouterWeights,
    /// Gate pre-activation of one expert.
    ExpertGate,
    /// Linear (up) branch of one expert.
    ExpertPre,
    /// Hidden activation of one expert.
    ExpertPost,
    /// Output of one expert before its routing weight.
    ExpertOut,
    /// Output of one expert times its routing weight: what it adds to the sum over the chosen experts.
    ExpertOutWeighted,
    /// Sum over the chosen experts, weighted.
    RoutedOut,
    /// Gate pre-activation of the expert that all tokens share.
    SharedGate,
    /// Linear (up) branch of the shared expert.
    SharedPre,
    /// Hidden activation of the shared expert.
    SharedPost,
    /// Output of the shared expert before its weight.
    SharedOut,
    /// Weight of the shared expert as applied, where it has one.
    SharedWeight,
    /// What the feed-forward layer adds to the residual stream.
    MlpOut,
    /// Residual stream leaving a block.
    ResidPost,
    /// Denominator of the final norm.
    FinalScale,
    /// Residual stream after the final norm.
    FinalNormalized,
    /// Next-token logits.
    Logits,
}

impl Site {
    /// Every site, in the order of the forward pass.
    pub const ALL: [Site; 44] = [
        Site::Embed,
        Site::PosEmbed,
        Site::ResidPre,
        Site::AttnScale,
        Site::AttnIn,
        Site::AttnRouterLogits,
        Site::AttnRouterIndices,
        Site::AttnRouterWeights,
        Site::AttnQ,
        Site::AttnK,
        Site::AttnV,
        Site::AttnScores,
        Site::AttnPattern,
        Site::AttnZ,
        Site::AttnResult,
        Site::AttnOut,
        Site::ResidMid,
        Site::MlpScale,
        Site::MlpIn,
        Site::MlpPre,
        Site::MlpPreLinear,
        Site::MlpPost,
        Site::RouterIn,
        Site::RouterLogits,
        Site::RouterScores,
        Site::RouterSelect,
        Site::RouterIndices,
        Site::RouterWeights,
        Site::ExpertGate,
        Site::ExpertPre,
        Site::ExpertPost,
        Site::ExpertOut,
        Site::ExpertOutWeighted,
        Site::RoutedOut,
        Site::SharedGate,
        Site::SharedPre,
        Site::SharedPost,
        Site::SharedOut,
        Site::SharedWeight,
        Site::MlpOut,
        Site::ResidPost,
        Site::FinalScale,
        Site::FinalNormalized,
        Site::Logits,
    ];

    /// Name without the `blocks.L.` and `mlp.experts.E.` prefixes.
    pub fn name(self) -> &'static str {
        match self {
            Site::Embed => "hook_embed",
            Site::PosEmbed => "hook_pos_embed",
            Site::ResidPre => "hook_resid_pre",
            Site::AttnScale => "ln1.hook_scale",
            Site::AttnIn => "ln1.hook_normalized",
            Site::AttnRouterLogits => "attn.router.hook_logits",
            Site::AttnRouterIndices => "attn.router.hook_indices",
            Site::AttnRouterWeights => "attn.router.hook_weights",
            Site::AttnQ => "attn.hook_q",
            Site::AttnK => "attn.hook_k",
            Site::AttnV => "attn.hook_v",
            Site::AttnScores => "attn.hook_attn_scores",
            Site::AttnPattern => "attn.hook_pattern",
            Site::AttnZ => "attn.hook_z",
            Site::AttnResult => "attn.hook_result",
            Site::AttnOut => "hook_attn_out",
            Site::ResidMid => "hook_resid_mid",
            Site::MlpScale => "ln2.hook_scale",
            Site::MlpIn => "hook_mlp_in",
            Site::MlpPre => "mlp.hook_pre",
            Site::MlpPreLinear => "mlp.hook_pre_linear",
            Site::MlpPost => "mlp.hook_post",
            Site::RouterIn => "mlp.router.hook_in",
            Site::RouterLogits => "mlp.router.hook_logits",
            Site::RouterScores => "mlp.router.hook_scores",
            Site::RouterSelect => "mlp.router.hook_select",
            Site::RouterIndices => "mlp.router.hook_indices",
            Site::RouterWeights => "mlp.router.hook_weights",
            Site::ExpertGate => "hook_gate",
            Site::ExpertPre => "hook_pre",
            Site::ExpertPost => "hook_post",
            Site::ExpertOut => "hook_out",
            Site::ExpertOutWeighted => "hook_out_weighted",
            Site::RoutedOut => "mlp.hook_routed_out",
            Site::SharedGate => "mlp.shared.hook_gate",
            Site::SharedPre => "mlp.shared.hook_pre",
            Site::SharedPost => "mlp.shared.hook_post",
            Site::SharedOut => "mlp.shared.hook_out",
            Site::SharedWeight => "mlp.shared.hook_weight",
            Site::MlpOut => "hook_mlp_out",
            Site::ResidPost => "hook_resid_post",
            Site::FinalScale => "ln_final.hook_scale",
            Site::FinalNormalized => "ln_final.hook_normalized",
            Site::Logits => "logits",
        }
    }

    /// Named axes of a value at this site, outermost first.
    pub fn axes(self) -> &'static [Axis] {
        use Axis::*;
        match self {
            Site::AttnScores | Site::AttnPattern => &[Batch, Head, Query, Key],
            Site::AttnQ | Site::AttnK | Site::AttnV | Site::AttnZ => &[Batch, Pos, HeadModel],
            Site::AttnResult => &[Batch, Pos, Head, Model],
            Site::AttnScale | Site::MlpScale | Site::FinalScale => &[Batch, Pos, Single],
            Site::MlpPre | Site::MlpPreLinear | Site::MlpPost => &[Batch, Pos, Neuron],
            Site::SharedGate | Site::SharedPre | Site::SharedPost => &[Batch, Pos, Neuron],
            Site::SharedWeight => &[Batch, Pos, Slot],
            Site::RouterLogits | Site::RouterScores | Site::RouterSelect => &[Batch, Pos, Expert],
            Site::AttnRouterLogits => &[Batch, Pos, Expert],
            Site::RouterIndices | Site::RouterWeights => &[Batch, Pos, Slot],
            Site::AttnRouterIndices | Site::AttnRouterWeights => &[Batch, Pos, Slot],
            Site::ExpertGate | Site::ExpertPre | Site::ExpertPost => &[Row, Neuron],
            Site::ExpertOut | Site::ExpertOutWeighted => &[Row, Model],
            Site::Logits => &[Batch, Pos, Vocab],
            _ => &[Batch, Pos, Model],
        }
    }

    /// Whether the site belongs to one block, so that its hook point needs a layer.
    pub fn in_block(self) -> bool {
        !matches!(
            self,
            Site::Embed | Site::PosEmbed | Site::FinalScale | Site::FinalNormalized | Site::Logits
        )
    }

    /// Whether the site belongs to one expert, so that its hook point needs an expert too.
    pub fn in_expert(self) -> bool {
        matches!(
            self,
            Site::ExpertGate | Site::ExpertPre | Site::ExpertPost | Site::ExpertOut | Site::ExpertOutWeighted
        )
    }

    /// Whether the site belongs to the expert that all tokens of a routed layer share.
    pub fn in_shared_expert(self) -> bool {
        matches!(
            self,
            Site::SharedGate | Site::SharedPre | Site::SharedPost | Site::SharedOut | Site::SharedWeight
        )
    }

    /// Whether the site is a value of the router of experts, of its input or what it makes of it.
    pub fn in_router(self) -> bool {
        matches!(
            self,
            Site::RouterIn
                | Site::RouterLogits
                | Site::RouterScores
                | Site::RouterSelect
                | Site::RouterIndices
                | Site::RouterWeights
        )
    }

    /// Whether the site exists only in a routed (sparse) layer.
    pub fn routed_only(self) -> bool {
        self.in_expert() || self.in_shared_expert() || self.in_router() || self == Site::RoutedOut
    }

    /// Whether the site exists only in a dense feed-forward layer.
    pub fn dense_only(self) -> bool {
        matches!(self, Site::MlpPre | Site::MlpPreLinear | Site::MlpPost)
    }

    /// Whether the value is the denominator of a norm.
    pub fn is_scale(self) -> bool {
        matches!(self, Site::AttnScale | Site::MlpScale | Site::FinalScale)
    }

    /// Whether a gradient can be asked for here: a choice of experts has none, and the denominator of a norm is worked out beside
    /// the norm, which is one operation.
    pub fn has_gradient(self) -> bool {
        !self.is_scale() && !matches!(self, Site::RouterIndices | Site::AttnRouterIndices)
    }

    /// Whether a [`ValueEdit`](crate::ValueEdit) may replace the value here, in some model at least.
    ///
    /// What follows is derived again: from edited logits the scores, from edited scores and selection scores the choice, from
    /// edited indices the weights. Where nothing would follow the edit is refused: at the logits, which are the end of the pass,
    /// at the denominators of norms, which are reported beside them, and at scores that a router reports and does not use.
    pub fn editable(self) -> bool {
        !self.is_scale() && !matches!(self, Site::Logits | Site::AttnRouterIndices)
    }

    /// One line on what the value is, for lists of hooks.
    pub fn meaning(self) -> &'static str {
        match self {
            Site::Embed => "token embedding",
            Site::PosEmbed => "position embedding",
            Site::ResidPre => "residual stream entering the block",
            Site::AttnScale => "denominator of the norm before attention",
            Site::AttnIn => "normalised input of attention",
            Site::AttnRouterLogits => "raw logits of the router of attention",
            Site::AttnRouterIndices => "experts chosen for attention, largest weight first",
            Site::AttnRouterWeights => "weights of the experts of attention, as applied",
            Site::AttnQ => "queries, after norm and rotary embedding",
            Site::AttnK => "keys, after norm and rotary embedding",
            Site::AttnV => "values",
            Site::AttnScores => "scores of queries and keys before the softmax",
            Site::AttnPattern => "attention probabilities",
            Site::AttnZ => "mixed values before the output projection",
            Site::AttnResult => "what each head adds, before the bias",
            Site::AttnOut => "what attention adds to the residual stream",
            Site::ResidMid => "residual stream between attention and feed-forward",
            Site::MlpScale => "denominator of the norm before the feed-forward layer",
            Site::MlpIn => "normalised input of the feed-forward layer",
            Site::MlpPre => "gate pre-activation",
            Site::MlpPreLinear => "linear (up) branch",
            Site::MlpPost => "hidden activation",
            Site::RouterIn => "what the router reads, apart from the experts",
            Site::RouterLogits => "raw router logits over all experts",
            Site::RouterScores => "router scores after softmax or sigmoid",
            Site::RouterSelect => "what the top-k choice sees",
            Site::RouterIndices => "chosen experts, largest weight first",
            Site::RouterWeights => "weights of the chosen experts, as applied",
            Site::ExpertGate => "one expert's gate pre-activation",
            Site::ExpertPre => "one expert's linear (up) branch",
            Site::ExpertPost => "one expert's hidden activation",
            Site::ExpertOut => "one expert's output before its routing weight",
            Site::ExpertOutWeighted => "one expert's output times its routing weight",
            Site::RoutedOut => "weighted sum over the chosen experts",
            Site::SharedGate => "the shared expert's gate pre-activation",
            Site::SharedPre => "the shared expert's linear (up) branch",
            Site::SharedPost => "the shared expert's hidden activation",
            Site::SharedOut => "the shared expert's output before its weight",
            Site::SharedWeight => "weight of the shared expert, as applied",
            Site::MlpOut => "what the feed-forward layer adds to the residual stream",
            Site::ResidPost => "residual stream leaving the block",
            Site::FinalScale => "denominator of the final norm",
            Site::FinalNormalized => "residual stream after the final norm",
            Site::Logits => "next-token logits",
        }
    }
}

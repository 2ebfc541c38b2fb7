//! How a model departs from the plain block.

use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::description::{positive, within};
use crate::scaling::Scaling;

/// Options that are independent of each other; the default of each is the plain block of [`Description`](crate::Description).
///
/// In a description that departs in nothing it is not written at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Variation {
    /// What a norm of the stream does.
    pub norm: Norm,
    /// Added to the mean square in the norms of blocks, where it is not that of the last norm.
    pub block_norm_epsilon: Option<f64>,
    /// Where the norms of a block stand.
    pub norm_placement: NormPlacement,
    /// Whether the feed-forward layer reads what enters the block, and not what attention has added to it.
    pub parallel: bool,
    /// How a token knows its place.
    pub positions: Positions,
    /// Options of attention.
    pub attention: Attention,
    /// What the neurons of all feed-forward layers and experts do.
    pub neuron: Neuron,
    /// Which products have a bias.
    pub biases: Biases,
    /// Multiplies the token embedding.
    pub embedding_scale: f64,
    /// Multiplies what attention and feed-forward layer write into the stream.
    pub residual_scale: f64,
    /// Multiplies the logits.
    pub logit_scale: f64,
    /// Logits become `cap * tanh(logit / cap)`, after the scale.
    pub logit_cap: Option<f64>,
}

/// What a norm does; norms of query and key heads and of latents are always RMSNorm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// RMSNorm.
    #[default]
    Rms,
    /// LayerNorm with a bias.
    Layer,
}

/// Where the norms of a block stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// Before attention and before the feed-forward layer.
    #[default]
    Before,
    /// After each, on what it writes.
    After,
    /// Before and after each.
    Around,
}

impl NormPlacement {
    /// Whether there are norms before attention and feed-forward layer.
    pub fn before(self) -> bool {
        self != NormPlacement::After
    }

    /// Whether there are norms after attention and feed-forward layer.
    pub fn after(self) -> bool {
        self != NormPlacement::Before
    }
}

/// How a token knows its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Positions {
    /// Queries and keys turn by their position.
    Rotary(Turning),
    /// A vector for each position is added to the token embedding.
    Learned,
}

impl Default for Positions {
    fn default() -> Positions {
        Positions::Rotary(Turning::default())
    }
}

/// Options of the rotary turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turning {
    /// Coordinates of a head that turn, from the first on; all of them where it is not said. An odd number is rounded up.
    pub dimensions: Option<usize>,
    /// Which coordinates make a pair.
    pub pairs: Pairs,
    /// How frequencies are changed for sequences longer than those of training.
    pub scaling: Scaling,
}

/// Which coordinates make a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// Coordinate `i` and the one half of the turning coordinates further.
    #[default]
    Halves,
    /// Coordinates `2 i` and `2 i + 1`.
    Neighbours,
}

/// Options of attention.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attention {
    /// Whether the norm of queries and keys, if there is one, spans all heads of a token instead of each.
    pub wide_qk_norm: bool,
    /// Queries, keys and values are cut at this number on both sides, before they turn.
    pub clip: Option<f64>,
    /// Multiplies the scores; `1 / sqrt(head_dim)` where it is not said.
    pub scale: Option<f64>,
    /// Whether scores are further divided by the number of the block, counted from one.
    pub scale_by_layer: bool,
    /// Scores become `cap * tanh(score / cap)`.
    pub cap: Option<f64>,
    /// Whether each head has a sink: a score beside those of the keys whose share goes nowhere.
    pub sinks: bool,
    /// For each block, how many keys a query sees, itself included; all where it is none. Empty: all, in every block.
    pub windows: Vec<Option<usize>>,
    /// Keys and values read from a narrow latent, as in DeepSeek.
    pub latent: Option<Latent>,
    /// Queries and output of experts that each token chooses, as in JetMoE.
    pub query_experts: Option<QueryExperts>,
}

/// Experts with queries and an output of their own: each chosen one asks with as many heads as there are key-value heads, and its
/// answer is weighted. The largest logits are chosen, and a softmax over these weighs.
///
/// **Source:** Shen et al. 2024, "JetMoE" (arXiv 2404.07413), after Zhang et al. 2022.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryExperts {
    /// Number of experts.
    pub experts: usize,
    /// Experts that each token chooses.
    pub per_token: usize,
}

/// Multi-head latent attention: keys and values are read from a normalised latent, and the part of a key that turns with the
/// position is one for all heads.
///
/// **Source:** DeepSeek-AI 2024, "DeepSeek-V2" (arXiv 2405.04434).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    /// Width of the latent that queries are read from; read from the stream where it is none.
    pub query_rank: Option<usize>,
    /// Width of the latent that keys and values are read from.
    pub rank: usize,
    /// Coordinates of a query or key head that do not turn; they come first.
    pub plain_dim: usize,
    /// Coordinates of a query or key head that turn.
    pub turned_dim: usize,
    /// Coordinates of a value head.
    pub value_dim: usize,
    /// Added to the mean square in the norms of latents.
    pub norm_epsilon: f64,
}

/// What the neurons of a feed-forward layer do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Neuron {
    /// `activation(gate) * up`, two matrices.
    Gated(Activation),
    /// `activation(pre)`, one matrix.
    Plain(Activation),
    /// As in gpt-oss: gate and branch cut at `limit`, `gate * sigmoid(alpha * gate) * (up + 1)`.
    Clamped {
        /// Steepness of the gate.
        alpha: f64,
        /// Where both are cut.
        limit: f64,
    },
}

impl Default for Neuron {
    fn default() -> Neuron {
        Neuron::Gated(Activation::Silu)
    }
}

impl Neuron {
    /// Whether there is a linear branch beside the gate.
    pub fn gated(self) -> bool {
        !matches!(self, Neuron::Plain(_))
    }
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x Φ(x)`.
    Gelu,
    /// The same through a hyperbolic tangent.
    GeluTanh,
    /// `x / (1 + exp(-1.702 x))`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

/// Which products have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Biases {
    /// Queries, keys and values; with a latent, the products that make the latents.
    pub attention_inputs: bool,
    /// What attention writes.
    pub attention_output: bool,
    /// All products of feed-forward layers and shared experts.
    pub feed_forward: bool,
    /// All products of routed experts.
    pub experts: bool,
    /// Router logits.
    pub router: bool,
    /// What a routed layer writes, once for all experts.
    pub routed_output: bool,
    /// The unembedding.
    pub unembedding: bool,
}

impl Default for Variation {
    fn default() -> Variation {
        Variation {
            norm: Norm::default(),
            block_norm_epsilon: None,
            norm_placement: NormPlacement::default(),
            parallel: false,
            positions: Positions::default(),
            attention: Attention::default(),
            neuron: Neuron::default(),
            biases: Biases::default(),
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
        }
    }
}

impl Variation {
    /// Whether the model departs from the plain block in nothing.
    pub fn is_plain(&self) -> bool {
        *self == Variation::default()
    }

    /// Options of the rotary turn, if positions are told that way.
    pub fn turning(&self) -> Option<&Turning> {
        match &self.positions {
            Positions::Rotary(turning) => Some(turning),
            Positions::Learned => None,
        }
    }

    /// Keys that queries of a block see; none where they see all before them.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.attention.windows.get(layer).copied().flatten()
    }

    /// Refuses options that make no model; `head_dim` and `layers` are those of the description.
    pub(crate) fn check(&self, head_dim: usize, layers: usize) -> Result<(), ModelError> {
        self.block_norm_epsilon.map_or(Ok(()), |epsilon| positive("block_norm_epsilon", epsilon))?;
        positive("embedding_scale", self.embedding_scale)?;
        positive("residual_scale", self.residual_scale)?;
        positive("logit_scale", self.logit_scale)?;
        self.logit_cap.map_or(Ok(()), |cap| positive("logit_cap", cap))?;
        if let Neuron::Clamped { alpha, limit } = self.neuron {
            positive("neuron alpha", alpha)?;
            positive("neuron limit", limit)?;
        }
        self.attention.check(head_dim, layers)?;
        let turned = self.attention.latent.as_ref().map_or(head_dim, |latent| latent.turned_dim);
        self.turning().map_or(Ok(()), |turning| turning.check(turned))
    }
}

impl Turning {
    /// Refuses a turning part that cannot be paired or lies outside the head.
    fn check(&self, head_dim: usize) -> Result<(), ModelError> {
        self.scaling.check()?;
        let turned = self.dimensions.unwrap_or(head_dim);
        if self.dimensions.is_none() && !head_dim.is_multiple_of(2) {
            return Err(ModelError::description("head_dim", head_dim, "an even number"));
        }
        if let (Scaling::Yarn { .. }, false) = (&self.scaling, turned.is_multiple_of(2)) {
            let wanted = "an even number: the bounds of YaRN are defined over whole pairs";
            return Err(ModelError::description("turning dimensions", turned, wanted));
        }
        if let Scaling::Long { short, long, .. } = &self.scaling {
            let pairs = turned.div_ceil(2);
            for (what, divisors) in [("short_factor", short), ("long_factor", long)] {
                within(&format!("entries of the rotary {what}"), divisors.len(), pairs, pairs)?;
            }
        }
        let paired = turned.checked_next_multiple_of(2).unwrap_or(usize::MAX);
        within("turning dimensions", paired, 2, head_dim)
    }
}

impl Attention {
    fn check(&self, head_dim: usize, layers: usize) -> Result<(), ModelError> {
        self.clip.map_or(Ok(()), |clip| positive("attention clip", clip))?;
        self.scale.map_or(Ok(()), |scale| positive("attention scale", scale))?;
        self.cap.map_or(Ok(()), |cap| positive("attention cap", cap))?;
        if !self.windows.is_empty() && self.windows.len() != layers {
            let wanted = format!("none, or one for each of {layers} layers");
            return Err(ModelError::description("attention windows", self.windows.len(), wanted));
        }
        if self.windows.contains(&Some(0)) {
            return Err(ModelError::description("attention window", 0, "at least 1"));
        }
        if let Some(QueryExperts { experts, per_token }) = self.query_experts {
            within("query experts", experts, 1, 1 << 20)?;
            within("query experts per token", per_token, 1, experts)?;
        }
        self.latent.as_ref().map_or(Ok(()), |latent| latent.check(head_dim))
    }
}

impl Latent {
    fn check(&self, head_dim: usize) -> Result<(), ModelError> {
        let sizes = [
            ("latent query_rank", self.query_rank.unwrap_or(1)),
            ("latent rank", self.rank),
            ("latent plain_dim", self.plain_dim),
            ("latent turned_dim", self.turned_dim),
            ("latent value_dim", self.value_dim),
        ];
        sizes.into_iter().try_for_each(|(what, size)| within(what, size, 1, 1 << 30))?;
        positive("latent norm_epsilon", self.norm_epsilon)?;
        let sum = self.plain_dim + self.turned_dim;
        if sum != head_dim {
            let wanted = format!("{sum}, the plain and the turned part of a latent head");
            return Err(ModelError::description("head_dim", head_dim, wanted));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variation_says_only_what_it_must_and_comes_back() {
        assert!(Variation::default().is_plain());
        let json = r#"{"norm": "layer", "neuron": {"plain": "gelu"}, "attention": {"windows": [null, 4]}}"#;
        let read: Variation = serde_json::from_str(json).unwrap();
        assert_eq!((read.norm, read.window(0), read.window(1)), (Norm::Layer, None, Some(4)));
        assert!(!read.neuron.gated() && !read.is_plain());
        let again = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Variation>(&again).unwrap(), read);
        assert!(serde_json::from_str::<Variation>(r#"{"nrom": "layer"}"#).is_err());
    }

    #[test]
    fn unsound_options_are_named() {
        let refuse = |change: &dyn Fn(&mut Variation), what: &str| {
            let mut variation = Variation::default();
            change(&mut variation);
            let error = variation.check(8, 2).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        Variation::default().check(8, 2).unwrap();
        refuse(&|v| v.attention.windows = vec![None], "attention windows");
        refuse(&|v| v.logit_scale = 0.0, "logit_scale");
        refuse(&|v| v.attention.cap = Some(f64::NAN), "attention cap");
        let latent = Latent {
            query_rank: None,
            rank: 4,
            plain_dim: 2,
            turned_dim: 4,
            value_dim: 2,
            norm_epsilon: 1e-6,
        };
        refuse(&|v| v.attention.latent = Some(latent.clone()), "head_dim");
        let turning = Turning { dimensions: Some(9), ..Turning::default() };
        refuse(&|v| v.positions = Positions::Rotary(turning.clone()), "turning dimensions");
        let scaling = Scaling::Long {
            short: vec![1.0; 2],
            long: vec![1.0; 3],
            original: 8,
            short_magnitude: 1.0,
            long_magnitude: 1.0,
        };
        let turning = Turning { dimensions: Some(4), scaling, ..Turning::default() };
        refuse(&|v| v.positions = Positions::Rotary(turning.clone()), "long_factor");
        let scaling = Scaling::Yarn {
            factor: 2.0,
            original: 8,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            magnitude: 1.0,
        };
        let turning = |dimensions| Turning {
            dimensions: Some(dimensions),
            scaling: scaling.clone(),
            ..Turning::default()
        };
        refuse(&|v| v.positions = Positions::Rotary(turning(3)), "turning dimensions");
        Variation { positions: Positions::Rotary(turning(4)), ..Variation::default() }.check(8, 2).unwrap();
    }
}

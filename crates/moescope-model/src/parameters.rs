//! Which tensors a model has, and where each is found.

use moescope_engine::Tensor;

use crate::description::{Description, FeedForward, Routed};
use crate::variation::{Latent, Norm, QueryExperts};

/// One named tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Hugging Face name. The experts of a layer share one tensor, `...mlp.experts.gate_proj` and so on, with axes
    /// `[expert, output, input]`.
    pub name: String,
    /// The weights; matrices are `[output, input]`.
    pub tensor: Tensor,
    /// Whether training changes it. A frozen router is the one exception.
    pub trained: bool,
    /// Whether weight decay applies: to matrices, not to norms and biases.
    pub decay: bool,
    /// Factor of the learning rate: the factor by which the first weights are larger than those of a dense layer, 1 for all
    /// but the writers of routed and top-k layers. AdamW moves every weight by about the learning rate whatever the
    /// gradient, so without it a layer whose output is scaled down by routing weights would learn its output that much more
    /// slowly than a dense one. Training `W` at `factor · rate` is training `V` with `W = factor · V` at `rate`.
    pub rate_factor: f32,
}

/// What a tensor is for; decides how it is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Embedding table or unembedding.
    Embedding,
    /// Scale of a norm.
    Norm,
    /// Addend of a product or a norm, or a sink.
    Bias,
    /// A matrix that reads a normalised value.
    Reader,
    /// A matrix that writes into the residual stream; the layer decides its scale.
    Writer {
        /// Block of the feed-forward layer; none for attention and shared experts.
        feed_forward: Option<usize>,
    },
    /// Router matrix.
    Router {
        /// Whether training changes it.
        trained: bool,
    },
}

/// A tensor that a description calls for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Specification {
    /// As [`Parameter::name`].
    pub(crate) name: String,
    /// Lengths of the axes; of a matrix, the last is the one that its product sums over.
    pub(crate) shape: Vec<usize>,
    /// Decides the first weights, and whether they train and decay.
    pub(crate) role: Role,
}

impl Specification {
    /// Numbers of the tensor; sizes that no machine can hold stay at the largest number.
    pub(crate) fn len(&self) -> u64 {
        self.shape.iter().fold(1u64, |product, axis| product.saturating_mul(*axis as u64))
    }

    /// The parameter with these weights.
    pub(crate) fn with(&self, tensor: Tensor) -> Parameter {
        let trained = self.role != Role::Router { trained: false };
        Parameter {
            name: self.name.clone(),
            tensor,
            trained,
            decay: !matches!(self.role, Role::Norm | Role::Bias),
            rate_factor: 1.0,
        }
    }
}

/// All tensors of a model in order, with the places of each block's tensors in that order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) specifications: Vec<Specification>,
    pub(crate) embedding: usize,
    /// One vector for each position, where positions are learned.
    pub(crate) positions: Option<usize>,
    pub(crate) blocks: Vec<BlockIndex>,
    pub(crate) final_norm: NormIndex,
    pub(crate) unembedding: Linear,
}

/// Places of the matrix of a product and of its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// Places of the scale of a norm and of its addend, which LayerNorm alone has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NormIndex {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// Places of one block's tensors.
///
/// Each is a place in [`Layout::specifications`], and so the id of the parameter on a tape. `None` stands for what
/// the block does not have. `hidden` holds one matrix each in a dense block and all experts' in a routed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockIndex {
    pub(crate) attention_norm: Option<NormIndex>,
    pub(crate) attention: AttentionIndex,
    pub(crate) attention_out_norm: Option<NormIndex>,
    pub(crate) feed_forward_norm: Option<NormIndex>,
    pub(crate) router: Option<Linear>,
    pub(crate) hidden: HiddenIndex,
    /// Added to what the experts of a routed layer write.
    pub(crate) routed_bias: Option<usize>,
    pub(crate) shared: Option<SharedIndex>,
    pub(crate) feed_forward_out_norm: Option<NormIndex>,
}

/// Places of the tensors of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionIndex {
    /// The latent that queries are read from, if there is one.
    pub(crate) query_latent: Option<LatentIndex>,
    pub(crate) query: Linear,
    /// The latent that keys and values are read from, and the turning part of keys beside it.
    pub(crate) latent: Option<(LatentIndex, Linear)>,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) query_norm: Option<usize>,
    pub(crate) key_norm: Option<usize>,
    pub(crate) sinks: Option<usize>,
    /// The router of the experts that `query` and `output` are matrices of, if there are such.
    pub(crate) router: Option<usize>,
    pub(crate) output: Linear,
}

impl AttentionIndex {
    /// Places of the matrices of products, in the order of the pass; routers and norms are none.
    pub(crate) fn matrices(&self) -> Vec<usize> {
        let latent = self.latent.map(|(latent, turned)| [latent.down, turned]);
        let narrow = self.query_latent.map(|latent| latent.down);
        narrow
            .into_iter()
            .chain([self.query])
            .chain(latent.into_iter().flatten())
            .chain([self.key, self.value, self.output])
            .map(|linear| linear.weight)
            .collect()
    }
}

/// Places of a narrow value and its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatentIndex {
    pub(crate) down: Linear,
    pub(crate) norm: usize,
}

/// Places of the matrices around a layer of neurons; without a gate there is no `up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HiddenIndex {
    pub(crate) gate: Linear,
    pub(crate) up: Option<Linear>,
    pub(crate) down: Linear,
}

/// Places of the expert that all tokens share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedIndex {
    pub(crate) hidden: HiddenIndex,
    /// What its weight is read with.
    pub(crate) weight: Option<usize>,
}

impl Layout {
    pub(crate) fn new(description: &Description) -> Layout {
        let mut list = List { description, specifications: Vec::new() };
        let (d, variation) = (description.d_model, &description.variation);
        let table = [description.vocab, d];
        let embedding = list.add("model.embed_tokens.weight", &table, Role::Embedding);
        let learned = variation.turning().is_none();
        let positions = learned.then(|| {
            let shape = [description.max_positions, d];
            list.add("model.position_embeddings.weight", &shape, Role::Embedding)
        });
        let blocks = (0..description.layers()).map(|layer| list.block(layer)).collect();
        let final_norm = list.norm("model.norm");
        let weight = match description.tied_embeddings {
            true => embedding,
            false => list.add("lm_head.weight", &table, Role::Embedding),
        };
        let biased = variation.biases.unembedding;
        let bias = biased.then(|| list.add("lm_head.bias", &table[..1], Role::Bias));
        let specifications = list.specifications;
        let unembedding = Linear { weight, bias };
        Layout { specifications, embedding, positions, blocks, final_norm, unembedding }
    }
}

struct List<'d> {
    description: &'d Description,
    specifications: Vec<Specification>,
}

impl List<'_> {
    fn add(&mut self, name: &str, shape: &[usize], role: Role) -> usize {
        self.specifications.push(Specification { name: name.into(), shape: shape.into(), role });
        self.specifications.len() - 1
    }

    /// A matrix `[output, input]` and its bias, if it has one.
    fn linear(&mut self, module: &str, shape: [usize; 2], role: Role, biased: bool) -> Linear {
        let weight = self.add(&format!("{module}.weight"), &shape, role);
        let bias = biased.then(|| self.add(&format!("{module}.bias"), &shape[..1], Role::Bias));
        Linear { weight, bias }
    }

    /// A norm of the stream.
    fn norm(&mut self, module: &str) -> NormIndex {
        let width = [self.description.d_model];
        let weight = self.add(&format!("{module}.weight"), &width, Role::Norm);
        let biased = self.description.variation.norm == Norm::Layer;
        let bias = biased.then(|| self.add(&format!("{module}.bias"), &width, Role::Bias));
        NormIndex { weight, bias }
    }

    fn block(&mut self, layer: usize) -> BlockIndex {
        let prefix = format!("model.layers.{layer}");
        let named = |leaf: &str| format!("{prefix}.{leaf}");
        let placement = self.description.variation.norm_placement;
        let (before, after) = (placement.before(), placement.after());
        let attention_norm = before.then(|| self.norm(&named("input_layernorm")));
        let options = self.description.variation.attention.clone();
        let attention = match (options.latent, options.query_experts) {
            (Some(latent), _) => self.latent_attention(&named("self_attn"), &latent),
            (None, Some(experts)) => self.expert_attention(&named("self_attn"), experts),
            (None, None) => self.attention(&named("self_attn")),
        };
        let attention_out_norm = after.then(|| self.norm(&named("attention_out_norm")));
        let feed_forward_norm = before.then(|| self.norm(&named("post_attention_layernorm")));
        let description = self.description;
        let (router, hidden, shared) = match &description.feed_forward[layer] {
            FeedForward::Dense { width } | FeedForward::TopKDense { width, .. } => {
                (None, self.dense(&named("mlp"), Some(layer), *width), None)
            }
            FeedForward::Routed(routed) => self.routed(&named("mlp"), layer, routed),
        };
        let biased = router.is_some() && description.variation.biases.routed_output;
        let routed_bias =
            biased.then(|| self.add(&named("mlp.routed_bias"), &[description.d_model], Role::Bias));
        let feed_forward_out_norm = after.then(|| self.norm(&named("feed_forward_out_norm")));
        BlockIndex {
            attention_norm,
            attention,
            attention_out_norm,
            feed_forward_norm,
            router,
            hidden,
            routed_bias,
            shared,
            feed_forward_out_norm,
        }
    }

    /// Queries, keys, values and output, with norms and biases as the options say.
    fn attention(&mut self, module: &str) -> AttentionIndex {
        let Description { d_model: d, heads, key_value_heads: shared, head_dim: size, .. } =
            *self.description;
        let biases = self.description.variation.biases;
        let named = |leaf: &str| format!("{module}.{leaf}");
        let mut reader = |leaf: &str, heads: usize| {
            self.linear(&named(leaf), [heads * size, d], Role::Reader, biases.attention_inputs)
        };
        let query = reader("q_proj", heads);
        let key = reader("k_proj", shared);
        let value = reader("v_proj", shared);
        let wide = self.description.variation.attention.wide_qk_norm;
        let mut head_norm = |leaf: &str, heads: usize| {
            let width = if wide { heads * size } else { size };
            self.description.qk_norm.then(|| self.add(&named(leaf), &[width], Role::Norm))
        };
        let query_norm = head_norm("q_norm.weight", heads);
        let key_norm = head_norm("k_norm.weight", shared);
        let (sinks, output) = self.attention_end(module, heads * size);
        AttentionIndex {
            query_latent: None,
            query,
            latent: None,
            key,
            value,
            query_norm,
            key_norm,
            sinks,
            router: None,
            output,
        }
    }

    /// Projections through a narrow vector: queries if they have one, keys and values always.
    fn latent_attention(&mut self, module: &str, latent: &Latent) -> AttentionIndex {
        let Description { d_model: d, heads, head_dim, .. } = *self.description;
        let biased = self.description.variation.biases.attention_inputs;
        let named = |leaf: &str| format!("{module}.{leaf}");
        let query_latent = latent.query_rank.map(|rank| LatentIndex {
            down: self.linear(&named("q_a_proj"), [rank, d], Role::Reader, biased),
            norm: self.add(&named("q_a_layernorm.weight"), &[rank], Role::Norm),
        });
        let query = match latent.query_rank {
            Some(rank) => self.linear(&named("q_b_proj"), [heads * head_dim, rank], Role::Reader, false),
            None => self.linear(&named("q_proj"), [heads * head_dim, d], Role::Reader, false),
        };
        let down = self.linear(&named("kv_a_proj"), [latent.rank, d], Role::Reader, biased);
        let turned = self.linear(&named("k_turned_proj"), [latent.turned_dim, d], Role::Reader, biased);
        let norm = self.add(&named("kv_a_layernorm.weight"), &[latent.rank], Role::Norm);
        let mut read = |leaf: &str, size: usize| {
            self.linear(&named(leaf), [heads * size, latent.rank], Role::Reader, false)
        };
        let key = read("k_b_proj", latent.plain_dim);
        let value = read("v_b_proj", latent.value_dim);
        let (sinks, output) = self.attention_end(module, heads * latent.value_dim);
        let latent = Some((LatentIndex { down, norm }, turned));
        AttentionIndex {
            query_latent,
            query,
            latent,
            key,
            value,
            query_norm: None,
            key_norm: None,
            sinks,
            router: None,
            output,
        }
    }

    /// Queries and output are matrices of all experts; keys and values are those of every token.
    fn expert_attention(&mut self, module: &str, chosen: QueryExperts) -> AttentionIndex {
        let mut index = self.attention(module);
        let Description { d_model: d, key_value_heads, head_dim, .. } = *self.description;
        let (experts, width) = (chosen.experts, key_value_heads * head_dim);
        let named = |leaf: &str| format!("{module}.{leaf}");
        // The matrices of one expert stand where those of all tokens would.
        for (place, leaf, shape) in [
            (index.query.weight, "experts.q_proj", [experts, width, d]),
            (index.output.weight, "experts.o_proj", [experts, d, width]),
        ] {
            let specification = &mut self.specifications[place];
            (specification.name, specification.shape) = (named(leaf), shape.to_vec());
        }
        if let Some(bias) = index.output.bias {
            self.specifications[bias].name = named("experts.output_bias");
        }
        let role = Role::Router { trained: true };
        index.router = Some(self.add(&named("router.weight"), &[experts, d], role));
        index
    }

    /// Sinks, and the matrix that writes what `width` mixed coordinates say.
    fn attention_end(&mut self, module: &str, width: usize) -> (Option<usize>, Linear) {
        let Description { d_model: d, heads, ref variation, .. } = *self.description;
        let with_sinks = variation.attention.sinks;
        let sinks = with_sinks.then(|| self.add(&format!("{module}.sinks"), &[heads], Role::Bias));
        let writer = Role::Writer { feed_forward: None };
        let biased = variation.biases.attention_output;
        (sinks, self.linear(&format!("{module}.o_proj"), [d, width], writer, biased))
    }

    /// A layer without experts, or the expert that all tokens share; gate and up only where there is a gate.
    fn dense(&mut self, module: &str, feed_forward: Option<usize>, width: usize) -> HiddenIndex {
        let (d, variation) = (self.description.d_model, &self.description.variation);
        let named = |leaf: &str| format!("{module}.{leaf}");
        let biased = variation.biases.feed_forward;
        let gated = variation.neuron.gated();
        HiddenIndex {
            gate: self.linear(&named("gate_proj"), [width, d], Role::Reader, biased),
            up: gated.then(|| self.linear(&named("up_proj"), [width, d], Role::Reader, biased)),
            down: self.linear(&named("down_proj"), [d, width], Role::Writer { feed_forward }, biased),
        }
    }

    fn routed(
        &mut self,
        module: &str,
        layer: usize,
        routed: &Routed,
    ) -> (Option<Linear>, HiddenIndex, Option<SharedIndex>) {
        let (d, variation) = (self.description.d_model, &self.description.variation);
        let kind = routed.router.kind;
        let role = Role::Router { trained: kind.trained() };
        let (experts, width) = (routed.experts, routed.expert_width);
        let biased = variation.biases.router;
        let router =
            kind.scores().then(|| self.linear(&format!("{module}.gate"), [experts, d], role, biased));
        let mut expert = |leaf: &str, outputs: usize, inputs: usize, role: Role| {
            let name = format!("{module}.experts.{leaf}");
            let weight = self.add(&name, &[experts, outputs, inputs], role);
            let biased = variation.biases.experts;
            let bias = biased.then(|| self.add(&format!("{name}_bias"), &[experts, outputs], Role::Bias));
            Linear { weight, bias }
        };
        let hidden = HiddenIndex {
            gate: expert("gate_proj", width, d, Role::Reader),
            up: variation.neuron.gated().then(|| expert("up_proj", width, d, Role::Reader)),
            down: expert("down_proj", d, width, Role::Writer { feed_forward: Some(layer) }),
        };
        let shared = routed.shared.map(|shared| SharedIndex {
            hidden: self.dense(&format!("{module}.shared_expert"), None, shared.width),
            weight: shared
                .weighted
                .then(|| self.add(&format!("{module}.shared_expert_gate.weight"), &[1, d], Role::Reader)),
        });
        (router, hidden, shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Router;
    use crate::testing;

    #[test]
    fn names_are_distinct_and_shapes_are_as_hugging_face_has_them() {
        for (name, description) in testing::varied() {
            let layout = Layout::new(&description);
            let names: std::collections::BTreeSet<_> =
                layout.specifications.iter().map(|s| &s.name).collect();
            assert_eq!(names.len(), layout.specifications.len(), "{name}");
        }
        let layout = Layout::new(&testing::routed_description(Router::learned(true)));
        let found = layout.specifications.iter().find(|s| s.name == "model.layers.1.mlp.experts.down_proj");
        assert_eq!(found.unwrap().shape, [6, 16, 12]);
    }

    #[test]
    fn a_tied_model_has_no_second_table() {
        let tied = Description { tied_embeddings: true, ..testing::dense_description() };
        let layout = Layout::new(&tied);
        assert_eq!(layout.unembedding.weight, layout.embedding);
        assert!(layout.specifications.iter().all(|s| s.name != "lm_head.weight"));
    }
}

//! Which tensors a model has, and where each is found.

use moescope_engine::Tensor;

use crate::description::{Description, FeedForward, Routed};

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
    /// Whether weight decay applies: to matrices, not to norms.
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
    /// A matrix that reads a normalised value.
    Reader,
    /// A matrix that writes into the residual stream; the layer decides its scale.
    Writer {
        /// Block of the feed-forward layer; none for attention.
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
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The parameter with these weights.
    pub(crate) fn with(&self, tensor: Tensor) -> Parameter {
        let trained = self.role != Role::Router { trained: false };
        Parameter {
            name: self.name.clone(),
            tensor,
            trained,
            decay: self.role != Role::Norm,
            rate_factor: 1.0,
        }
    }
}

/// All tensors of a model in order, with the places of each block's tensors in that order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) specifications: Vec<Specification>,
    pub(crate) embedding: usize,
    pub(crate) blocks: Vec<BlockIndex>,
    pub(crate) final_norm: usize,
    pub(crate) unembedding: usize,
    /// Whether the norm of queries and keys spans all heads of a token, as in OLMoE, instead of each.
    pub(crate) wide_qk_norm: bool,
}

/// Places of one block's tensors.
///
/// Each is a place in [`Layout::specifications`], and so the id of the parameter on a tape. `None` stands for what
/// the block does not have. `gate`, `up` and `down` are one matrix each in a dense block and all experts' in a routed
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockIndex {
    pub(crate) attention_norm: usize,
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) query_norm: Option<usize>,
    pub(crate) key_norm: Option<usize>,
    pub(crate) output: usize,
    pub(crate) feed_forward_norm: usize,
    pub(crate) router: Option<usize>,
    pub(crate) gate: usize,
    pub(crate) up: usize,
    pub(crate) down: usize,
}

impl Layout {
    pub(crate) fn new(description: &Description, wide_qk_norm: bool) -> Layout {
        let mut list = List { specifications: Vec::new() };
        let table = [description.vocab, description.d_model];
        let embedding = list.add("model.embed_tokens.weight", &table, Role::Embedding);
        let blocks = (0..description.layers()).map(|l| list.block(description, l, wide_qk_norm)).collect();
        let final_norm = list.add("model.norm.weight", &[description.d_model], Role::Norm);
        let unembedding = match description.tied_embeddings {
            true => embedding,
            false => list.add("lm_head.weight", &table, Role::Embedding),
        };
        let specifications = list.specifications;
        Layout { specifications, embedding, blocks, final_norm, unembedding, wide_qk_norm }
    }
}

struct List {
    specifications: Vec<Specification>,
}

impl List {
    fn add(&mut self, name: &str, shape: &[usize], role: Role) -> usize {
        self.specifications.push(Specification { name: name.into(), shape: shape.into(), role });
        self.specifications.len() - 1
    }

    fn block(&mut self, description: &Description, layer: usize, wide_qk_norm: bool) -> BlockIndex {
        let d = description.d_model;
        let (heads, shared) = (description.heads, description.key_value_heads);
        let size = description.head_dim;
        let prefix = format!("model.layers.{layer}");
        let named = |leaf: &str| format!("{prefix}.{leaf}");
        let attention_norm = self.add(&named("input_layernorm.weight"), &[d], Role::Norm);
        let query = self.add(&named("self_attn.q_proj.weight"), &[heads * size, d], Role::Reader);
        let key = self.add(&named("self_attn.k_proj.weight"), &[shared * size, d], Role::Reader);
        let value = self.add(&named("self_attn.v_proj.weight"), &[shared * size, d], Role::Reader);
        let mut head_norm = |leaf: &str, heads: usize| {
            let width = if wide_qk_norm { heads * size } else { size };
            description.qk_norm.then(|| self.add(&named(leaf), &[width], Role::Norm))
        };
        let query_norm = head_norm("self_attn.q_norm.weight", heads);
        let key_norm = head_norm("self_attn.k_norm.weight", shared);
        let writer = Role::Writer { feed_forward: None };
        let output = self.add(&named("self_attn.o_proj.weight"), &[d, heads * size], writer);
        let feed_forward_norm = self.add(&named("post_attention_layernorm.weight"), &[d], Role::Norm);
        let (router, [gate, up, down]) = match &description.feed_forward[layer] {
            FeedForward::Dense { width } | FeedForward::TopKDense { width, .. } => {
                (None, self.dense(&prefix, layer, d, *width))
            }
            FeedForward::Routed(routed) => self.routed(&prefix, layer, d, routed),
        };
        BlockIndex {
            attention_norm,
            query,
            key,
            value,
            query_norm,
            key_norm,
            output,
            feed_forward_norm,
            router,
            gate,
            up,
            down,
        }
    }

    fn dense(&mut self, prefix: &str, layer: usize, d: usize, width: usize) -> [usize; 3] {
        let named = |leaf: &str| format!("{prefix}.mlp.{leaf}.weight");
        let writer = Role::Writer { feed_forward: Some(layer) };
        [
            self.add(&named("gate_proj"), &[width, d], Role::Reader),
            self.add(&named("up_proj"), &[width, d], Role::Reader),
            self.add(&named("down_proj"), &[d, width], writer),
        ]
    }

    fn routed(
        &mut self,
        prefix: &str,
        layer: usize,
        d: usize,
        routed: &Routed,
    ) -> (Option<usize>, [usize; 3]) {
        let kind = routed.router.kind;
        let role = Role::Router { trained: kind.trained() };
        let (experts, width) = (routed.experts, routed.expert_width);
        let router =
            kind.scores().then(|| self.add(&format!("{prefix}.mlp.gate.weight"), &[experts, d], role));
        let named = |leaf: &str| format!("{prefix}.mlp.experts.{leaf}");
        let writer = Role::Writer { feed_forward: Some(layer) };
        let experts = [
            self.add(&named("gate_proj"), &[experts, width, d], Role::Reader),
            self.add(&named("up_proj"), &[experts, width, d], Role::Reader),
            self.add(&named("down_proj"), &[experts, d, width], writer),
        ];
        (router, experts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Router;
    use crate::testing;

    #[test]
    fn names_are_distinct_and_shapes_are_as_hugging_face_has_them() {
        let layout = Layout::new(&testing::routed_description(Router::learned(true)), false);
        let names: std::collections::BTreeSet<_> = layout.specifications.iter().map(|s| &s.name).collect();
        assert_eq!(names.len(), layout.specifications.len());
        let found = layout.specifications.iter().find(|s| s.name == "model.layers.1.mlp.experts.down_proj");
        assert_eq!(found.unwrap().shape, [6, 16, 12]);
    }

    #[test]
    fn a_tied_model_has_no_second_table() {
        let tied = Description { tied_embeddings: true, ..testing::dense_description() };
        let layout = Layout::new(&tied, false);
        assert_eq!(layout.unembedding, layout.embedding);
        assert!(layout.specifications.iter().all(|s| s.name != "lm_head.weight"));
    }
}

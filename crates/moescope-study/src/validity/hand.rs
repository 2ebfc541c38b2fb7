//! Models whose weights are set by hand.
//!
//! Coordinates of the stream have one meaning each, so that a weight can be put where it does what it should.

use moescope_base::Seed;
use moescope_model::{
    Description, FeedForward, Model, ModelError, Positions, Routed, Router, RouterKind, Variation,
};
use rand::RngExt;

/// Token ids.
pub(super) const VOCABULARY: usize = 48;
/// Routed layers of most models, one in each block.
pub(super) const LAYERS: usize = 2;
/// Experts of a layer, of which a token chooses [`PER_TOKEN`].
pub(super) const EXPERTS: usize = 8;
/// Experts that a token chooses.
pub(super) const PER_TOKEN: usize = 2;
/// Neurons of an expert: one for each token.
pub(super) const NEURONS: usize = VOCABULARY;
/// Domains of the text.
pub(super) const DOMAINS: usize = 4;
/// Longest sequence.
pub(super) const POSITIONS: usize = 256;

/// Coordinates that say which token stands here.
pub(super) const TOKEN: usize = 0;
/// Coordinates that say which token comes next.
pub(super) const ANSWER: usize = TOKEN + VOCABULARY;
/// Coordinates that say which token stood before.
pub(super) const BEFORE: usize = ANSWER + VOCABULARY;
/// Coordinates that say the position.
pub(super) const PLACE: usize = BEFORE + VOCABULARY;
/// Number of these.
pub(super) const PLACES: usize = 16;
/// Coordinates that say the domain.
pub(super) const DOMAIN: usize = PLACE + PLACES;
/// A coordinate that is one wherever there is a token.
pub(super) const CONSTANT: usize = DOMAIN + DOMAINS;
/// Coordinates that say which expert of the first layer has been here.
pub(super) const MARK: usize = CONSTANT + 1;
/// Width of the stream.
pub(super) const WIDTH: usize = MARK + EXPERTS + 3;

/// Coordinates of a head: enough to carry which token it is.
const HEAD: usize = VOCABULARY;
const HEADS: usize = 2;

/// A model of routed blocks in which nothing writes and nothing is predicted until it is set.
///
/// Experts read at random but write nothing, heads attend evenly and write nothing, routers have random rows in all directions.
#[derive(Clone)]
pub(super) struct Hand {
    model: Model,
    layers: usize,
}

impl Hand {
    /// A model whose layers are routed by these kinds of router.
    pub(super) fn new(kinds: impl AsRef<[RouterKind]>, seed: Seed) -> Result<Hand, ModelError> {
        let mut hand = Hand::random(kinds, seed)?;
        for layer in 0..hand.layers {
            hand.of_block(layer, "mlp.experts.down_proj").fill(0.0);
        }
        Ok(hand)
    }

    /// The same with experts that write at random.
    pub(super) fn random(kinds: impl AsRef<[RouterKind]>, seed: Seed) -> Result<Hand, ModelError> {
        let (kinds, layers) = (kinds.as_ref(), kinds.as_ref().len());
        let layer = |kind: &RouterKind| {
            let router = Router { kind: *kind, ..Router::learned(true) };
            let (experts, expert_width) = (EXPERTS, NEURONS);
            FeedForward::Routed(Routed { experts, expert_width, per_token: PER_TOKEN, router, shared: None })
        };
        let description = Description {
            vocab: VOCABULARY,
            d_model: WIDTH,
            heads: HEADS,
            key_value_heads: HEADS,
            head_dim: HEAD,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-6,
            max_positions: POSITIONS,
            tied_embeddings: false,
            qk_norm: false,
            feed_forward: kinds.iter().map(layer).collect(),
            variation: Variation { positions: Positions::Learned, ..Variation::default() },
        };
        let mut hand = Hand { model: Model::initialise(description, seed)?, layers };
        for name in ["model.embed_tokens.weight", "model.position_embeddings.weight", "lm_head.weight"] {
            hand.named(name).fill(0.0);
        }
        for layer in 0..layers {
            for leaf in ["q_proj", "k_proj", "v_proj", "o_proj"] {
                hand.of_block(layer, &format!("self_attn.{leaf}")).fill(0.0);
            }
        }
        hand.every_token(|token| [(TOKEN + token, 1.0), (CONSTANT, 1.0)]);
        Ok(hand)
    }

    /// The model as it has been set.
    pub(super) fn model(self) -> Model {
        self.model
    }

    /// Adds to the embedding of every token what the closure says of it.
    pub(super) fn every_token<const N: usize>(&mut self, of: impl Fn(usize) -> [(usize, f32); N]) {
        let table = self.named("model.embed_tokens.weight");
        for (token, row) in table.chunks_exact_mut(WIDTH).enumerate() {
            of(token).iter().for_each(|(coordinate, value)| row[*coordinate] += value);
        }
    }

    /// The embedding of tokens, `[token, WIDTH]`.
    pub(super) fn tokens(&mut self) -> &mut [f32] {
        self.named("model.embed_tokens.weight")
    }

    /// The vectors of positions, `[POSITIONS, WIDTH]`.
    pub(super) fn positions(&mut self) -> &mut [f32] {
        self.named("model.position_embeddings.weight")
    }

    /// The unembedding, `[VOCABULARY, WIDTH]`.
    pub(super) fn unembedding(&mut self) -> &mut [f32] {
        self.named("lm_head.weight")
    }

    /// The rows of a router that scores, `[EXPERTS, WIDTH]`.
    pub(super) fn router(&mut self, layer: usize) -> &mut [f32] {
        self.of_block(layer, "mlp.gate")
    }

    /// Gives the experts of every layer other names: expert `order[e]` becomes expert `e`, in weights and router alike.
    pub(super) fn rename(&mut self, order: &[usize]) {
        for layer in 0..self.layers {
            for leaf in ["mlp.gate", "mlp.experts.gate_proj", "mlp.experts.up_proj", "mlp.experts.down_proj"]
            {
                let matrix = self.of_block(layer, leaf);
                let size = matrix.len() / EXPERTS;
                let renamed: Vec<f32> =
                    order.iter().flat_map(|old| matrix[old * size..(old + 1) * size].to_vec()).collect();
                matrix.copy_from_slice(&renamed);
            }
        }
    }

    /// What the experts of a layer write with, `[EXPERTS, WIDTH, NEURONS]`.
    pub(super) fn down(&mut self, layer: usize) -> &mut [f32] {
        self.of_block(layer, "mlp.experts.down_proj")
    }

    /// The matrices of one expert, gate, up and down, told one after the other with their number of columns.
    pub(super) fn each_matrix(
        &mut self,
        layer: usize,
        expert: usize,
        mut change: impl FnMut(&mut [f32], usize),
    ) {
        for (leaf, columns) in [("gate_proj", WIDTH), ("up_proj", WIDTH), ("down_proj", NEURONS)] {
            let matrix = self.of_block(layer, &format!("mlp.experts.{leaf}"));
            let size = matrix.len() / EXPERTS;
            change(&mut matrix[expert * size..(expert + 1) * size], columns);
        }
    }

    /// One entry of a matrix of head 0: queries, keys and values are `[coordinate of the head, WIDTH]`, the output `[WIDTH, coordinate of
    /// the head]`.
    pub(super) fn head(&mut self, layer: usize, leaf: &str, row: usize, column: usize) -> &mut f32 {
        let columns = if leaf == "o_proj" { HEADS * HEAD } else { WIDTH };
        &mut self.of_block(layer, &format!("self_attn.{leaf}"))[row * columns + column]
    }

    /// Makes a neuron of an expert read one coordinate and write `strength` times its square, about, to another.
    pub(super) fn neuron(&mut self, at: (usize, usize, usize), reads: usize, writes: usize, strength: f32) {
        let (layer, expert, neuron) = at;
        for leaf in ["gate_proj", "up_proj"] {
            let matrix = self.of_block(layer, &format!("mlp.experts.{leaf}"));
            let start = (expert * NEURONS + neuron) * WIDTH;
            matrix[start..start + WIDTH].fill(0.0);
            matrix[start + reads] = 1.0;
        }
        self.of_block(layer, "mlp.experts.down_proj")[(expert * WIDTH + writes) * NEURONS + neuron] =
            strength;
    }

    /// Makes one expert of a layer another's twin, with its neurons in the opposite order.
    pub(super) fn twin(&mut self, layer: usize, of: usize, expert: usize) {
        for (leaf, rows, columns) in
            [("gate_proj", NEURONS, WIDTH), ("up_proj", NEURONS, WIDTH), ("down_proj", WIDTH, NEURONS)]
        {
            let matrix = self.of_block(layer, &format!("mlp.experts.{leaf}"));
            let size = rows * columns;
            let own = matrix[of * size..(of + 1) * size].to_vec();
            for row in 0..rows {
                for column in 0..columns {
                    let from = match leaf {
                        "down_proj" => row * columns + (columns - 1 - column),
                        _ => (rows - 1 - row) * columns + column,
                    };
                    matrix[expert * size + row * columns + column] = own[from];
                }
            }
        }
    }

    fn of_block(&mut self, layer: usize, leaf: &str) -> &mut [f32] {
        let name = match leaf.starts_with("mlp.experts") {
            true => format!("model.layers.{layer}.{leaf}"),
            false => format!("model.layers.{layer}.{leaf}.weight"),
        };
        self.named(&name)
    }

    fn named(&mut self, name: &str) -> &mut [f32] {
        let parameters = self.model.parameters_mut();
        let found = parameters.iter_mut().find(|parameter| parameter.name == name);
        found.expect("a tensor that the description of this file calls for").tensor.data_mut()
    }
}

/// One draw from the standard normal distribution (Box and Muller 1958).
pub(super) fn normal(rng: &mut impl RngExt) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}

//! Small models for the tests of this crate, and how they are asked.

use moescope_base::{
    Edit, HookPoint, Observation, Request, Seed, Site, Subject, TokenSelection, Tokens, ValueEdit,
};

use crate::description::{
    Description, FeedForward, Groups, Order, Routed, Router, RouterKind, Score, Shared,
};
use crate::model::Model;
use crate::subject::ModelSubject;
use crate::variation::{
    Activation, Attention, Biases, Latent, Neuron, Norm, NormPlacement, Positions, QueryExperts, Turning,
    Variation,
};

/// Two dense layers.
pub(crate) fn dense_description() -> Description {
    Description {
        vocab: 32,
        d_model: 16,
        heads: 4,
        key_value_heads: 2,
        head_dim: 4,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 64,
        tied_embeddings: false,
        qk_norm: true,
        feed_forward: vec![FeedForward::Dense { width: 24 }; 2],
        variation: Variation::default(),
    }
}

/// A dense layer below one of six experts, two for each token.
pub(crate) fn routed_description(router: Router) -> Description {
    let routed = Routed { experts: 6, expert_width: 12, per_token: 2, router, shared: None };
    Description {
        feed_forward: vec![FeedForward::Dense { width: 24 }, FeedForward::Routed(routed)],
        ..dense_description()
    }
}

pub(crate) fn model(description: Description) -> Model {
    Model::initialise(description, Seed(7)).unwrap()
}

pub(crate) fn tokens() -> Tokens {
    let ids = (0..18).map(|i| (i * 7 + i * i * 3) % 32).collect();
    Tokens::new(ids, 2, 9).unwrap()
}

/// One model of each kind of feed-forward layer and router, and of each [varied] option.
pub(crate) fn zoo() -> Vec<(&'static str, Description)> {
    let of = |kind, score, order, renormalise| {
        routed_description(Router { kind, score, order, ..Router::learned(renormalise) })
    };
    use Order::{ScoreThenSelect, SelectThenScore};
    use RouterKind::{Committee, Frozen, Hash, Learned, Random};
    use Score::{Sigmoid, Softmax};
    let sparse = FeedForward::TopKDense { width: 24, active: 5 };
    let mut all = vec![
        ("dense", dense_description()),
        ("top-k", Description { feed_forward: vec![sparse; 2], ..dense_description() }),
        ("raw", of(Learned, Softmax, ScoreThenSelect, false)),
        ("renormalised", of(Learned, Softmax, ScoreThenSelect, true)),
        ("sigmoid", of(Learned, Sigmoid, ScoreThenSelect, true)),
        ("select first", of(Learned, Softmax, SelectThenScore, false)),
        ("frozen", of(Frozen, Softmax, ScoreThenSelect, false)),
        ("hash", of(Hash { seed: 3 }, Softmax, ScoreThenSelect, false)),
        ("random", of(Random { seed: 3 }, Softmax, ScoreThenSelect, false)),
        ("committee", of(Committee { members: 2 }, Softmax, ScoreThenSelect, false)),
    ];
    all.extend(varied());
    all
}

pub(crate) fn all_points(description: &Description) -> Vec<HookPoint> {
    description.subject_shape().hook_points()
}

pub(crate) fn value_edit(at: HookPoint, change: ValueEdit) -> Edit {
    Edit::Value { at, tokens: TokenSelection::All, change }
}

/// One model for each option that the plain block lacks, by the name of the option.
pub(crate) fn varied() -> Vec<(&'static str, Description)> {
    [varied_blocks(), varied_attention(), varied_routes()].concat()
}

/// The dense model with a change.
fn dense(change: &dyn Fn(&mut Description)) -> Description {
    let mut description = Description { qk_norm: false, ..dense_description() };
    change(&mut description);
    description
}

/// The options of blocks as wholes.
fn varied_blocks() -> Vec<(&'static str, Description)> {
    vec![
        ("layer norm", dense(&|d| d.variation.norm = Norm::Layer)),
        ("norms after", dense(&|d| d.variation.norm_placement = NormPlacement::After)),
        ("norms around", dense(&|d| d.variation.norm_placement = NormPlacement::Around)),
        ("parallel", dense(&|d| d.variation.parallel = true)),
        ("learned positions", dense(&|d| d.variation.positions = Positions::Learned)),
        ("no gate", dense(&|d| d.variation.neuron = Neuron::Plain(Activation::Gelu))),
        (
            "factors",
            dense(&|d| {
                d.variation.embedding_scale = 2.0;
                d.variation.residual_scale = 0.5;
                d.variation.logit_scale = 0.25;
                d.variation.logit_cap = Some(3.0);
            }),
        ),
        ("clamped", dense(&|d| d.variation.neuron = Neuron::Clamped { alpha: 1.702, limit: 7.0 })),
    ]
}

/// The options of attention.
fn varied_attention() -> Vec<(&'static str, Description)> {
    let latent = |query_rank| Latent {
        query_rank,
        rank: 6,
        plain_dim: 3,
        turned_dim: 4,
        value_dim: 5,
        norm_epsilon: 1e-6,
    };
    let deep = |query_rank| {
        dense(&|d| {
            (d.head_dim, d.key_value_heads) = (7, 4);
            d.variation.attention.latent = Some(latent(query_rank));
        })
    };
    vec![
        (
            "part turns",
            dense(&|d| {
                d.variation.positions =
                    Positions::Rotary(Turning { dimensions: Some(2), ..Turning::default() });
            }),
        ),
        ("latent", deep(None)),
        ("latent queries", deep(Some(5))),
        (
            "window, cap and sinks",
            dense(&|d| {
                d.variation.attention = Attention {
                    windows: vec![Some(3), None],
                    cap: Some(2.0),
                    sinks: true,
                    clip: Some(0.4),
                    scale: Some(0.3),
                    scale_by_layer: true,
                    ..Attention::default()
                };
            }),
        ),
        (
            "query experts",
            dense(&|d| {
                d.variation.attention.query_experts = Some(QueryExperts { experts: 3, per_token: 2 });
                d.variation.block_norm_epsilon = Some(1e-5);
                d.variation.biases.attention_output = true;
            }),
        ),
    ]
}

/// The options of routed layers.
fn varied_routes() -> Vec<(&'static str, Description)> {
    let routed = |change: &dyn Fn(&mut Routed, &mut Variation)| {
        let mut description = routed_description(Router::learned(true));
        let FeedForward::Routed(layer) = &mut description.feed_forward[1] else { unreachable!("as built") };
        change(layer, &mut description.variation);
        description
    };
    let biases = Biases {
        attention_inputs: true,
        attention_output: true,
        feed_forward: true,
        experts: true,
        router: true,
        routed_output: true,
        unembedding: true,
    };
    let groups = Some(Groups { count: 3, chosen: 2, best: 2 });
    vec![
        ("biases", routed(&|_, v| v.biases = biases)),
        ("shared", routed(&|r, _| r.shared = Some(Shared { width: 7, weighted: false }))),
        ("weighted shared", routed(&|r, _| r.shared = Some(Shared { width: 7, weighted: true }))),
        ("groups", routed(&|r, _| r.router = Router { groups, scale: 2.5, ..Router::learned(false) })),
        (
            "one by one",
            routed(&|r, _| {
                r.router = Router { order: Order::OneByOne, tolerance: 1.0, ..Router::learned(false) };
            }),
        ),
    ]
}

/// A subject from a fresh model.
pub(crate) fn subject(description: &Description) -> ModelSubject {
    ModelSubject::new(model(description.clone()))
}

/// One pass over the usual tokens.
pub(crate) fn run(subject: &mut ModelSubject, record: &[HookPoint], edits: &[Edit]) -> Observation {
    subject.run(&Request { record, edits, ..Request::of(&tokens()) }).unwrap()
}

/// The logits of such a pass, `[token, vocab]`.
pub(crate) fn logits(subject: &mut ModelSubject, edits: &[Edit]) -> Vec<f32> {
    let point = HookPoint::global(Site::Logits);
    run(subject, &[point], edits).values[&point].real().unwrap().to_vec()
}

/// Bits of the numbers, with both zeros alike.
pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| (x + 0.0).to_bits()).collect()
}

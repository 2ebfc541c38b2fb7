//! Small models for the tests of this crate, and how they are asked.

use moescope_base::{Edit, HookPoint, Observation, Request, Seed, Site, Subject, Tokens};

use crate::description::{Description, FeedForward, Routed, Router};
use crate::model::Model;
use crate::subject::ModelSubject;

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
    }
}

/// A dense layer below one of six experts, two for each token.
pub(crate) fn routed_description(router: Router) -> Description {
    let routed = Routed { experts: 6, expert_width: 12, per_token: 2, router };
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

/// A subject from a fresh model.
pub(crate) fn subject(description: &Description) -> ModelSubject {
    ModelSubject::new(model(description.clone()))
}

/// One pass over the usual tokens.
pub(crate) fn run(subject: &mut ModelSubject, record: &[HookPoint], edits: &[Edit]) -> Observation {
    subject.run(&Request { tokens: &tokens(), record, edits, gradients: &[] }).unwrap()
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

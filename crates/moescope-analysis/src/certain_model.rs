//! A small model that attends and is certain of what it predicts, and random text for it.

use moescope_base::{Seed, Tokens};
use moescope_model::{Description, FeedForward, Model, ModelSubject, Routed, Router, Variation};

use crate::Sample;

/// Blocks.
pub(crate) const LAYERS: usize = 3;

fn description(routed: bool) -> Description {
    let router = Router::learned(true);
    let feed_forward = match routed {
        true => {
            FeedForward::Routed(Routed { experts: 4, expert_width: 6, per_token: 2, router, shared: None })
        }
        false => FeedForward::Dense { width: 12 },
    };
    Description {
        vocab: 20,
        d_model: 12,
        heads: 2,
        key_value_heads: 2,
        head_dim: 6,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 16,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![feed_forward; LAYERS],
        variation: Variation::default(),
    }
}

/// Weights so large that predictions are certain of something.
pub(crate) fn model(routed: bool, change: impl Fn(&str, &mut [f32])) -> ModelSubject {
    let mut model = Model::initialise(description(routed), Seed(5)).unwrap();
    for parameter in model.parameters_mut() {
        let name = parameter.name.clone();
        let factor = if name.contains("mlp.experts") || name.contains("lm_head") || name.contains("o_proj") {
            12.0
        } else {
            1.0
        };
        parameter.tensor.data_mut().iter_mut().for_each(|weight| *weight *= factor);
        change(&name, parameter.tensor.data_mut());
    }
    ModelSubject::new(model)
}

/// Random text: 24 documents of eight tokens, in one batch.
pub(crate) fn samples() -> Vec<Sample> {
    let mut rng = Seed(7).rng();
    let ids = (0..192).map(|_| rand::RngExt::random_range(&mut rng, 0..20)).collect();
    vec![Sample::one_document_each(Tokens::new(ids, 24, 8).unwrap(), 0)]
}

//! Knocking out experts of a whole model: one that was made to matter, and one that nobody chooses.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use moescope::analysis::Sample;
use moescope::analysis::knockout::{ExpertId, Knockout, KnockoutOptions, Removal, knockout};
use moescope::analysis::statistics::{BootstrapMethod, Resampling};
use moescope::base::{Seed, Tokens};
use moescope::model::{Description, FeedForward, Model, ModelSubject, Routed, Router, Variation};

const EXPERTS: usize = 8;
const LAYER: usize = 1;

fn model() -> Model {
    let routed = Routed {
        experts: EXPERTS,
        expert_width: 12,
        per_token: 2,
        router: Router::learned(true),
        shared: None,
    };
    let description = Description {
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
        feed_forward: vec![FeedForward::Dense { width: 24 }, FeedForward::Routed(routed)],
        variation: Variation::default(),
    };
    Model::initialise(description, Seed(7)).unwrap()
}

fn ask(model: Model, expert: usize, removal: Removal) -> Knockout {
    let samples: Vec<Sample> = (0..24)
        .map(|document| {
            let ids = (0..40).map(|i| (i * i * 3 + i * 7 + document * 11) % 32).collect();
            Sample::one_document_each(Tokens::new(ids, 1, 40).unwrap(), document)
        })
        .collect();
    let resampling =
        Resampling { replicates: 300, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(2) };
    let options = KnockoutOptions { removal, matched: 3, resampling, seed: Seed(1) };
    let experts = [ExpertId { layer: LAYER, expert }];
    knockout(&mut ModelSubject::new(model), &samples, &experts, &options, &mut |_, _| {}).unwrap()
}

#[test]
fn an_expert_that_was_made_to_matter_stands_out() {
    let mut model = model();
    let name = format!("model.layers.{LAYER}.mlp.experts.down_proj");
    let weights = model.parameters_mut().iter_mut().find(|parameter| parameter.name == name).unwrap();
    let each = weights.tensor.len() / EXPERTS;
    weights.tensor.data_mut()[3 * each..4 * each].iter_mut().for_each(|weight| *weight *= 40.0);
    let found = ask(model, 3, Removal::Zero);
    let against = found.against.unwrap();
    assert!(found.removed.load > 0.0 && against.kl.low > 0.0 && against.kl_p == 0.25, "{found:?}");
}

#[test]
fn an_expert_that_nobody_chooses_changes_nothing_to_the_bit() {
    for removal in [Removal::Zero, Removal::Ban] {
        let mut model = model();
        let mut bias = vec![0.0; EXPERTS];
        bias[5] = -100.0;
        model.set_selection_bias(LAYER, bias);
        let removed = ask(model, 5, removal).removed;
        assert_eq!(
            (removed.load, removed.loss.estimate, removed.kl.estimate),
            (0.0, 0.0, 0.0),
            "{removal:?}"
        );
        assert_eq!([removed.loss.low, removed.loss.high, removed.kl.low, removed.kl.high], [0.0; 4]);
    }
}

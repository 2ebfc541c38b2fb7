//! The examples do what they say, on a checkpoint whose routes the reference implementation has told.

#[path = "../examples/ban_an_expert.rs"]
#[allow(dead_code)] // its `main`
mod ban_an_expert;
#[path = "../examples/continue_a_text.rs"]
#[allow(dead_code)] // its `main`
mod continue_a_text;
#[path = "../examples/residual_gradient.rs"]
#[allow(dead_code)] // its `main`
mod residual_gradient;
#[path = "../examples/router_values.rs"]
#[allow(dead_code)] // its `main`
mod router_values;
#[path = "../examples/routing_table.rs"]
#[allow(dead_code)] // its `main`
mod routing_table;

use std::path::PathBuf;

use moescope::base::Subject;
use moescope::model::{Model, ModelSubject};
use moescope::trace::read_input_ids;
use moescope::weights::Weights;

fn fixture() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/qwen3_moe"))
}

/// A tensor of the reference, whole numbers as reals.
fn reference(name: &str) -> Vec<f32> {
    let weights = Weights::open(&fixture().join("reference.safetensors")).expect("the fixture opens");
    weights.tensor(name).and_then(|tensor| tensor.read()).expect("the reference holds the tensor")
}

/// The first of the two sequences of the reference.
fn ids() -> Vec<u32> {
    let tokens = read_input_ids(&fixture().join("reference.safetensors")).expect("the reference holds ids");
    tokens.sequence(0).to_vec()
}

#[test]
fn routes_and_weights_are_those_of_the_reference() {
    let ids = ids();
    let routes = router_values::routes(&fixture(), &ids).unwrap();
    assert_eq!(routes.iter().map(|route| route.layer).collect::<Vec<_>>(), [0, 1, 2]);
    for route in routes {
        let row = |what: &str| reference(&format!("router.{}.{what}", route.layer));
        let last = (ids.len() - 1) * 4..ids.len() * 4;
        let experts: Vec<f32> = route.experts.iter().map(|expert| *expert as f32).collect();
        assert_eq!(experts, row("topk_idx")[last.clone()]);
        let weights = row("topk_weight");
        let near = |(found, wanted): (&f32, &f32)| (found - wanted).abs() < 1e-5;
        assert!(route.weights.iter().zip(&weights[last]).all(near), "{:?}", route.weights);
    }
}

#[test]
fn the_busiest_expert_is_that_of_the_reference_and_banning_it_changes_the_loss() {
    let ids = ids();
    for ban in ban_an_expert::bans(&fixture(), &ids).unwrap() {
        let choices = reference(&format!("router.{}.topk_idx", ban.layer));
        let count = |expert: usize| choices[..4 * ids.len()].iter().filter(|e| **e == expert as f32).count();
        let most = (0..16).map(count).max().unwrap();
        assert_eq!(count(ban.expert as usize), most);
        assert!(ban.cost.is_finite() && ban.cost.abs() > 1e-6, "{}", ban.cost);
    }
}

#[test]
fn gradients_of_a_difference_are_those_of_the_opposite_and_vanish_with_it() {
    let ids = ids();
    let of = |pair| residual_gradient::lengths(&fixture(), &ids, pair).unwrap();
    let found = of([5, 8]);
    assert_eq!((found.len(), found[0].len()), (3, ids.len()));
    assert_eq!(found, of([8, 5]));
    assert!(found.iter().all(|block| block[ids.len() - 1] > 1e-3));
    assert!(of([5, 5]).iter().flatten().all(|length| *length == 0.0));
}

#[test]
fn the_table_has_a_line_for_each_byte_and_the_routes_of_the_other_example() {
    let text = "to route";
    let table = routing_table::table(&fixture(), text).unwrap();
    assert_eq!(table.iter().map(|line| line.token.as_str()).collect::<String>(), text);
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    let routes = router_values::routes(&fixture(), &bytes).unwrap();
    let last: Vec<Vec<i64>> = routes.into_iter().map(|route| route.experts).collect();
    assert_eq!(table[text.len() - 1].experts, last);
}

#[test]
fn the_next_token_is_the_most_probable_one_of_the_reference() {
    let ids = ids();
    let mut subject = ModelSubject::new(Model::open(&fixture()).unwrap());
    let logits = reference("logits");
    let vocabulary = subject.shape().vocab;
    for length in [1, ids.len() / 2, ids.len()] {
        let row = &logits[(length - 1) * vocabulary..length * vocabulary];
        let wanted = (0..vocabulary).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        assert_eq!(continue_a_text::next_token(&mut subject, &ids[..length]).unwrap(), wanted as u32);
    }
}

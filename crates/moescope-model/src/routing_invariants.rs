//! What must hold of routed layers: what the choice depends on, and when experts are a dense layer.

use std::sync::Arc;

use moescope_base::{Edit, HookPoint, Request, RouteEdit, Seed, Site, Subject, Tokens};
use moescope_engine::{Mode, ParameterId, RoutePlan, Tape, Tensor};

use crate::description::{Description, FeedForward, Routed, Router, RouterKind};
use crate::model::Model;
use crate::pass::Pass;
use crate::testing::{self, bits, logits, run, subject, tokens};

#[test]
fn replaying_the_recorded_routes_changes_nothing_and_banning_bites() {
    let description = testing::routed_description(Router::learned(false));
    let mut subject = subject(&description);
    let point = HookPoint::block(Site::RouterIndices, 1);
    let recorded = run(&mut subject, &[point], &[]);
    let choices: Vec<u32> = recorded.values[&point].integer().unwrap().iter().map(|e| *e as u32).collect();
    let plain = bits(&logits(&mut subject, &[]));
    let replay = |choices: Vec<u32>| Edit::Route { layer: 1, change: RouteEdit::Replay { choices } };
    assert_eq!(bits(&logits(&mut subject, &[replay(choices.clone())])), plain);
    let mirrored = choices.iter().map(|e| 5 - e).collect();
    assert_ne!(bits(&logits(&mut subject, &[replay(mirrored)])), plain);
    let banned = choices[0];
    let ban = [Edit::Route { layer: 1, change: RouteEdit::Ban { experts: vec![banned] } }];
    let without = run(&mut subject, &[point], &ban);
    assert!(!without.values[&point].integer().unwrap().contains(&i64::from(banned)));
}

#[test]
fn weights_follow_the_changed_choice() {
    let description = testing::routed_description(Router::learned(false));
    let mut subject = subject(&description);
    let [scores, indices, weights] =
        [Site::RouterScores, Site::RouterIndices, Site::RouterWeights].map(|site| HookPoint::block(site, 1));
    let force = [Edit::Route { layer: 1, change: RouteEdit::Force { experts: vec![4] } }];
    let seen = run(&mut subject, &[scores, indices, weights], &force).values;
    let (scores, indices) = (seen[&scores].real().unwrap(), seen[&indices].integer().unwrap());
    for (slot, weight) in seen[&weights].real().unwrap().iter().enumerate() {
        assert_eq!(*weight, scores[slot / 2 * 6 + indices[slot] as usize]);
    }
    assert!(indices.chunks(2).all(|chosen| chosen.contains(&4)));
}

#[test]
fn the_balance_loss_at_even_load_does_not_depend_on_how_many_are_chosen() {
    for per_token in 1..=4 {
        let choices: Vec<u32> = (0..8).flat_map(|t| (0..per_token).map(move |s| (t + s) % 8)).collect();
        let plan = Arc::new(RoutePlan::new(&choices, 8, per_token as usize).unwrap());
        let mut tape = Tape::new(Mode::Inference);
        let scores = tape.constant(Tensor::full([8, 8], 0.125));
        let loss = tape.balance_loss(scores, &plan).unwrap();
        assert!((tape.value(loss).data()[0] - 1.0).abs() < 1e-6, "{per_token}");
    }
}

/// A model of another description with the weights that both have.
fn transplant(from: &Model, into: Description) -> Model {
    let mut model = Model::initialise(into, Seed(99)).unwrap();
    for parameter in model.parameters_mut() {
        if let Some(given) = from.parameters().iter().find(|p| p.name == parameter.name) {
            parameter.tensor = given.tensor.clone();
        }
    }
    model
}

/// The experts of the only layer side by side in one dense layer.
fn dense_twin(routed: &Model, width: usize, output_scale: f32) -> Model {
    let d = routed.description().d_model;
    let dense =
        Description { feed_forward: vec![FeedForward::Dense { width }], ..routed.description().clone() };
    let mut twin = transplant(routed, dense);
    for leaf in ["gate_proj", "up_proj", "down_proj"] {
        let experts = named(routed, &format!("model.layers.0.mlp.experts.{leaf}")).clone();
        let numbers = match leaf {
            "down_proj" => side_by_side(&experts, d, output_scale),
            _ => experts.data().to_vec(),
        };
        let name = format!("model.layers.0.mlp.{leaf}.weight");
        let target = twin.parameters_mut().iter_mut().find(|p| p.name == name).unwrap();
        target.tensor = Tensor::new(target.tensor.shape(), numbers).unwrap();
    }
    twin
}

/// `[expert, d, width]` → `[d, expert * width]`, scaled.
fn side_by_side(experts: &Tensor, d: usize, scale: f32) -> Vec<f32> {
    let (count, width) = (experts.shape()[0], experts.shape()[2]);
    let entry = |row: usize, column: usize| {
        let (expert, inner) = (column / width, column % width);
        scale * experts.data()[(expert * d + row) * width + inner]
    };
    (0..d)
        .flat_map(|row| (0..count * width).map(move |column| (row, column)))
        .map(|(r, c)| entry(r, c))
        .collect()
}

fn named<'m>(model: &'m Model, name: &str) -> &'m Tensor {
    &model.parameters().iter().find(|p| p.name == name).unwrap().tensor
}

fn one_layer(experts: usize, per_token: usize, kind: RouterKind) -> Model {
    let router = Router { kind, ..Router::learned(false) };
    let routed = Routed { experts, expert_width: 8, per_token, router, shared: None };
    testing::model(Description {
        feed_forward: vec![FeedForward::Routed(routed)],
        ..testing::dense_description()
    })
}

#[test]
fn all_experts_with_equal_weights_are_one_wide_dense_layer() {
    let routed = one_layer(4, 4, RouterKind::Hash { seed: 1 });
    let dense = dense_twin(&routed, 32, 0.25);
    let point = HookPoint::block(Site::MlpOut, 0);
    let written =
        |model: Model| run(&mut model.into(), &[point], &[]).values[&point].real().unwrap().to_vec();
    let (a, b) = (written(routed), written(dense));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
}

#[test]
fn one_expert_of_weight_one_is_a_dense_layer() {
    let routed = one_layer(1, 1, RouterKind::Learned);
    let dense = dense_twin(&routed, 8, 1.0);
    assert_eq!(bits(&logits(&mut routed.into(), &[])), bits(&logits(&mut dense.into(), &[])));
}

#[test]
fn unscored_routers_depend_on_what_they_say_and_committees_stay_whole() {
    let point = HookPoint::block(Site::RouterIndices, 1);
    let routes = |kind, ids: &[u32], salt| {
        let description = testing::routed_description(Router { kind, ..Router::learned(false) });
        let tokens = Tokens::new(ids.to_vec(), 1, ids.len()).unwrap();
        let request = Request { record: &[point], ..Request::of(&tokens) };
        let mut subject = subject(&description).with_salt(salt);
        subject.run(&request).unwrap().values[&point].integer().unwrap().to_vec()
    };
    let hash = routes(RouterKind::Hash { seed: 5 }, &[3, 9, 3, 9, 9], 0);
    assert_eq!(hash[0..4], hash[4..8], "the same ids after other prefixes");
    assert_eq!(
        hash,
        routes(RouterKind::Hash { seed: 5 }, &[3, 9, 3, 9, 9], 1),
        "the salt is not for hash routers"
    );
    let ids: Vec<u32> = (0..20).map(|i| i % 4).collect();
    let random = routes(RouterKind::Random { seed: 5 }, &ids, 0);
    assert_eq!(random[..20], routes(RouterKind::Random { seed: 5 }, &ids[..10], 0)[..]);
    assert_ne!(random, routes(RouterKind::Random { seed: 5 }, &ids, 1));
    assert_ne!(random[..8], random[8..16], "the same ids after another prefix");
    let committee = routes(RouterKind::Committee { members: 2 }, &ids, 0);
    assert!(committee.chunks(2).all(|pair| pair[0] / 2 == pair[1] / 2));
}

#[test]
fn a_selection_bias_moves_the_choice_and_not_the_weights() {
    let mut model = testing::model(testing::routed_description(Router::learned(false)));
    let [scores, indices, weights, select] =
        [Site::RouterScores, Site::RouterIndices, Site::RouterWeights, Site::RouterSelect]
            .map(|site| HookPoint::block(site, 1));
    model.set_selection_bias(1, vec![0.0, 0.0, 0.0, 10.0, 0.0, 0.0]);
    let seen = run(&mut model.into(), &[scores, indices, weights, select], &[]).values;
    let chosen = seen[&indices].integer().unwrap();
    assert!(chosen.chunks(2).all(|pair| pair.contains(&3)));
    for (slot, weight) in seen[&weights].real().unwrap().iter().enumerate() {
        assert_eq!(*weight, seen[&scores].real().unwrap()[slot / 2 * 6 + chosen[slot] as usize]);
    }
    assert!(seen[&weights].real().unwrap().chunks(2).all(|pair| pair[0] >= pair[1]));
    assert!(seen[&select].real().unwrap()[3] > 9.0);
}

#[test]
fn a_frozen_router_gets_no_gradient_and_all_else_does() {
    let frozen = Router { kind: RouterKind::Frozen, ..Router::learned(false) };
    let model = testing::model(testing::routed_description(frozen));
    let tokens = tokens();
    let mut tape = Tape::new(Mode::Gradient);
    let forward = model.forward(&mut tape, &tokens, &mut Pass::plain()).unwrap();
    let loss = tape.cross_entropy(forward.logits, &tokens.next_ids(moescope_engine::IGNORE)).unwrap();
    let gradients = tape.backward(loss).unwrap();
    for (place, parameter) in model.parameters().iter().enumerate() {
        let found = gradients.parameter(ParameterId(place)).is_some();
        assert_eq!(found, !parameter.name.ends_with("mlp.gate.weight"), "{}", parameter.name);
    }
    assert_eq!(forward.routes.len(), 1);
    assert_eq!(forward.routes[0].layer, 1);
}

use std::collections::HashMap;

use super::*;
use crate::instrument::{Material, Overhears};
use crate::planted_model::{batch, model, own_text};
use crate::routing::planted;
use crate::statistics::BootstrapMethod;
use moescope_base::Tokens;
use moescope_model::ModelSubject;
use proptest::prelude::*;

const RESAMPLING: Resampling =
    Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };

fn run(
    text: &TokenTable,
    experts: usize,
    per_token: usize,
    choices: Vec<u32>,
) -> HashMap<Predictor, LayerPredictability> {
    let trace = planted::trace(text.clone(), experts, per_token, vec![choices]);
    let found = predictability(&trace, None, Seed(1), RESAMPLING).unwrap();
    found.into_iter().map(|row| (row.predictor, row)).collect()
}

fn text() -> TokenTable {
    planted::text(40, 25, 12, &mut Seed(7).rng())
}

#[test]
fn eight_documents_by_hand() {
    // Four documents teach the four others, whichever these are. Token 1 goes to 0 in all; token 2 to another expert in each.
    let text = planted::tokens([1, 1, 2].repeat(8), vec![0; 24], (0..24).map(|t| t / 3).collect());
    let found = run(&text, 9, 1, (1..9).flat_map(|expert| [0, 0, expert]).collect());
    assert!((found[&Predictor::Token].overlap.estimate - 4.0 / 6.0).abs() < 1e-12);
    assert!((found[&Predictor::Load].overlap.estimate - 4.0 / 6.0).abs() < 1e-12);
    assert_eq!((found[&Predictor::Token].seen, found[&Predictor::Token].gain.estimate), (1.0, 0.0));
}

#[test]
fn routes_by_token_id_are_known_from_the_token_and_not_from_the_position() {
    let text = text();
    let found = run(&text, 6, 1, text.ids.iter().map(|id| id % 6).collect());
    assert_eq!(found[&Predictor::Token].overlap.estimate, 1.0);
    assert!(found[&Predictor::Position].overlap.high < 0.4 && found[&Predictor::Load].overlap.high < 0.4);
}

#[test]
fn routes_by_the_token_before_need_the_bigram() {
    let text = text();
    let before = |t: usize| if text.positions[t] == 0 { 0 } else { text.ids[t - 1] % 3 };
    let found = run(&text, 3, 1, (0..text.len()).map(before).collect());
    assert!(found[&Predictor::Bigram].overlap.low > 0.9, "{found:?}");
    assert!(found[&Predictor::Token].overlap.high < 0.6);
}

#[test]
fn random_routes_are_not_known_from_anything() {
    let text = text();
    let (mut overlaps, mut gains) = (0, 0);
    for seed in 0..200 {
        let choices = planted::random_sets(text.len(), 8, 1, |_| 1.0, &mut Seed(seed).child("null").rng());
        let trace = planted::trace(text.clone(), 8, 1, vec![choices]);
        let found = predictability(&trace, None, Seed(seed), RESAMPLING).unwrap();
        let token = found.iter().find(|row| row.predictor == Predictor::Token).unwrap();
        overlaps += u32::from(token.overlap.low > 1.0 / 8.0);
        gains += u32::from(token.gain.low > 0.0);
    }
    // An interval of 95 % lies wholly above the truth in 2.5 % of the cases: 5 of 200, and 12 in 1 of 400.
    assert!(overlaps <= 12 && gains <= 12, "{overlaps} and {gains} of 200");
}

proptest! {
    #[test]
    fn names_of_experts_matter_only_where_counts_tie(seed in any::<u64>()) {
        let text = text();
        let choices = text.ids.iter().map(|id| id % 5).collect();
        let trace = planted::trace(text, 5, 1, vec![choices]);
        let of = |trace: &RoutingTrace| {
            let found = predictability(trace, None, Seed(1), RESAMPLING).unwrap();
            found.iter().find(|row| row.predictor == Predictor::Token).copied()
        };
        prop_assert_eq!(of(&trace), of(&planted::renamed(&trace, seed)));
    }
}

/// One cluster for each token of one layer.
fn clusters(of: Vec<u32>) -> InputClusters {
    InputClusters { of: vec![Some(of)] }
}

fn by_cluster(trace: &RoutingTrace, clusters: &InputClusters, seed: u64) -> LayerPredictability {
    let found = predictability(trace, Some(clusters), Seed(seed), RESAMPLING).unwrap();
    found.into_iter().find(|row| row.predictor == Predictor::Cluster).unwrap()
}

#[test]
fn what_the_token_does_not_tell_the_cluster_does_and_clusters_by_hand() {
    // As in the hand-worked documents above, but the cluster tells where token 2 goes: 1 or 2.
    let text = planted::tokens([1, 1, 2].repeat(8), vec![0; 24], (0..24).map(|t| t / 3).collect());
    let routes: Vec<u32> = (0..8).flat_map(|document| [0, 0, 1 + document % 2]).collect();
    let trace = planted::trace(text, 3, 1, vec![routes.clone()]);
    let known = by_cluster(&trace, &clusters(routes), 5);
    assert_eq!((known.overlap.estimate, known.overlap.units), (1.0, 4));
    assert!((known.gain.estimate - 1.0 / 3.0).abs() < 1e-12, "{known:?}");
    // A cluster that stands in no document that teaches falls back to the load.
    let new = by_cluster(&trace, &clusters((0..24).collect()), 5);
    assert_eq!((new.overlap.estimate, new.gain.estimate, new.seen), (2.0 / 3.0, 0.0, 0.0));
}

#[test]
fn clusters_that_say_nothing_are_called_telling_at_the_stated_rate() {
    let text = text();
    let called = (0..200).filter(|seed| {
        let mut rng = Seed(*seed).child("null").rng();
        let choices = planted::random_sets(text.len(), 8, 1, |_| 1.0, &mut rng);
        let of = planted::random_sets(text.len(), 32, 1, |_| 1.0, &mut rng);
        let trace = planted::trace(text.clone(), 8, 1, vec![choices]);
        by_cluster(&trace, &clusters(of), *seed).gain.low > 0.0
    });
    // An interval of 95 % lies wholly above the truth in 2.5 % of the cases: 5 of 200, and 12 in 1 of 400.
    let called = called.count();
    assert!(called <= 12, "{called} of 200");
}

#[test]
fn names_of_clusters_do_not_matter() {
    let text = text();
    let of: Vec<u32> = text.ids.iter().map(|id| id % 7).collect();
    let trace = planted::trace(text.clone(), 5, 1, vec![text.ids.iter().map(|id| id % 5).collect()]);
    let renamed = of.iter().map(|cluster| (3 * cluster + 2) % 7).collect();
    assert_eq!(by_cluster(&trace, &clusters(of), 1), by_cluster(&trace, &clusters(renamed), 1));
}

#[test]
fn clusters_of_a_models_router_inputs_tell_its_routes() {
    let model = model(2, 3, |_, _| {});
    let sample = own_text(&model, 16, 3);
    let batches: Vec<(Tokens, TokenTable)> = vec![batch(&sample)];
    let mut subject = ModelSubject::new(model);
    let trace = moescope_trace::record_routing(&mut subject, batches.clone()).unwrap();
    let found = input_clusters(&mut subject, &batches, &trace, Seed(1)).unwrap();
    assert_eq!(found.of.len(), 2);
    // Attention writes nothing, so a token has one vector and so one cluster, and 24 clusters are enough for 24 tokens.
    let first = found.of[0].as_ref().unwrap();
    let ids = &trace.tokens().ids;
    for (id, cluster) in ids.iter().zip(first) {
        assert_eq!(first[ids.iter().position(|other| other == id).unwrap()], *cluster);
    }
    let known = by_cluster(&trace, &found, 1);
    assert!(known.overlap.estimate > 0.95 && known.gain.low > 0.2, "{known:?}");
    let again = input_clusters(&mut subject, &batches, &trace, Seed(1)).unwrap();
    assert_eq!(found, again);
}

#[test]
fn what_comes_with_the_routes_is_what_passes_of_their_own_find() {
    let model = model(2, 3, |_, _| {});
    let samples = [own_text(&model, 8, 3), own_text(&model, 8, 4)];
    let batches: Vec<(Tokens, TokenTable)> = samples.iter().map(batch).collect();
    let mut subject = ModelSubject::new(model);
    let mut alone = Material::new(&mut subject, batches.clone(), Seed(5)).unwrap();
    let routes = alone.routes().unwrap().clone();
    let (predictions, clusters) =
        (alone.predictions().unwrap().clone(), alone.input_clusters().unwrap().clone());
    drop(alone);
    let both = [Overhears::Predictions, Overhears::InputClusters];
    for expected in [&both[..], &both[..1], &both[1..], &[]] {
        let mut material = Material::new(&mut subject, batches.clone(), Seed(5)).unwrap();
        expected.iter().for_each(|what| material.expect(*what));
        assert_eq!(material.routes().unwrap(), &routes);
        assert_eq!(material.known_beside_routes(), both.map(|what| expected.contains(&what)));
        assert_eq!(material.predictions().unwrap(), &predictions);
        assert_eq!(material.input_clusters().unwrap(), &clusters);
    }
}

#[test]
fn clusters_are_learned_from_the_half_that_teaches_alone() {
    let teaching: Vec<usize> = (0..100).filter(|token| token % 3 != 0).collect();
    let sample = router_inputs::sample(&teaching, 40, Seed(2));
    assert_eq!(sample.len(), 40);
    assert!(sample.is_sorted() && sample.iter().all(|token| teaching.contains(token)));
    assert_eq!(router_inputs::sample(&teaching, 500, Seed(2)), teaching);
}

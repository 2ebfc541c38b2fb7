use super::barrier::{excess, highest};
use super::*;
use crate::instrument::{Instrument, Material};
use crate::planted_model::{batch, model, own_text, resampling, twin};
use crate::statistics::bootstrap;
use moescope_base::{Request, Seed, Subject};
use moescope_model::{Model, ModelSubject};
use rand::RngExt;

fn run(model: &Model, seed: u64) -> Vec<Barrier> {
    let samples = [own_text(model, 24, seed)];
    barriers(&mut ModelSubject::new(model.clone()), &samples, Seed(seed), resampling(seed)).unwrap()
}

fn twins(seed: u64) -> Model {
    model(1, seed, |name, data| twin(name, data, 0, 1, 4))
}

#[test]
fn a_barrier_by_hand() {
    // Two documents of one and three tokens; the line rises by 1 and 2 in the middle of ends that fall from 4 to 0.
    let losses = [vec![1.0, 3.0], vec![1.0, 3.0], vec![1.0, 2.0], vec![0.5, 0.5], vec![0.0, 0.0]];
    let tokens = [1.0, 3.0];
    assert_eq!(excess(&losses, &tokens, 0, &[0, 1]), 0.0);
    assert_eq!(excess(&losses, &tokens, 1, &[0, 1]), (4.0 - 3.0) / 4.0);
    assert_eq!(excess(&losses, &tokens, 2, &[0, 1]), (3.0 - 2.0) / 4.0);
    assert_eq!(excess(&losses, &tokens, 3, &[0, 1]), 0.0);
    assert_eq!((highest(&losses, &tokens, &[0, 1]), highest(&losses, &tokens, &[0])), (0.25, 0.5));
}

#[test]
fn the_barrier_between_twins_vanishes_once_they_are_matched_and_not_before() {
    let found = run(&twins(1), 1);
    let closest = &found[0];
    assert_eq!((closest.first, closest.second, closest.kind), (1, 4, PairKind::Closest));
    assert!(closest.matched.high < 1e-5 && closest.matched.low > -1e-5, "{closest:?}");
    assert!(closest.plain.low > 0.02 && closest.merged_plain.low > 0.02, "{closest:?}");
    assert!(closest.merged.high < 1e-5 && closest.null[3] > 0.02, "{closest:?}");
}

#[test]
fn merging_twins_costs_nothing_once_matched_and_random_experts_much() {
    let model = twins(2);
    let samples = [own_text(&model, 24, 2)];
    let found = merging_curve(&mut ModelSubject::new(model), &samples, Seed(2), resampling(2)).unwrap();
    let first = |way: Way| found.iter().find(|point| point.way == way).unwrap();
    assert!(first(Way::Matched).loss.high < 1e-5, "{found:?}");
    assert!(first(Way::Plain).loss.low > 0.0 && first(Way::Matched).random > 0.0, "{found:?}");
    let last = found.last().unwrap();
    assert_eq!((last.merged, last.share), (3, 0.5));
    assert!(last.loss.low > 0.0);
}

#[test]
fn merging_independent_experts_costs_whatever_their_neurons_are_matched_to() {
    let found = run(&model(1, 3, |_, _| {}), 3);
    assert!(found.iter().all(|pair| pair.merged.low > 0.0), "{found:?}");
    assert!(found[0].merged.high > 0.25 * found[0].null[3], "{found:?}");
}

#[test]
fn where_there_is_no_barrier_none_is_claimed_at_the_stated_rate() {
    // Excesses of 24 documents that vary about 0, alike at the three places as they are on a line.
    let claimed = |seed: u64| {
        let mut rng = Seed(seed).rng();
        let documents: Vec<f64> = (0..24).map(|_| crate::matrix::normal(&mut rng)).collect();
        let mut inner = || documents.iter().map(|x| x + 0.1 * rng.random::<f64>()).collect::<Vec<f64>>();
        let losses = [vec![0.0; 24], inner(), inner(), inner(), vec![0.0; 24]];
        // The largest of three shares of the spread is above 0 on average: what is centred is the mean.
        let tokens = [1.0; 24];
        let found = bootstrap(24, |drawn| highest(&losses, &tokens, drawn) - 0.05, resampling(seed)).unwrap();
        found.low > 0.0
    };
    let rate = (0..200).filter(|seed| claimed(*seed)).count();
    assert!(rate < 20, "{rate} of 200");
}

#[test]
fn the_names_of_experts_and_the_order_of_documents_do_not_matter() {
    let own = run(&twins(4), 4);
    // Expert e becomes expert 5 − e, in router and weights alike.
    let renamed = model(1, 4, |name, data| {
        twin(name, data, 0, 1, 4);
        if name.contains("mlp.experts") || name.contains("mlp.gate") {
            let parts: Vec<Vec<f32>> = data.chunks(data.len() / 6).rev().map(<[f32]>::to_vec).collect();
            data.copy_from_slice(&parts.concat());
        }
    });
    let other = run(&renamed, 4);
    assert_eq!((other[0].first, other[0].second), (1, 4), "5 − 4 and 5 − 1");
    assert!((own[0].plain.estimate - other[0].plain.estimate).abs() < 1e-4, "{own:?} {other:?}");
    assert!((own[0].cosine - other[0].cosine).abs() < 1e-6);
}

#[test]
fn the_model_is_as_it_was_and_the_finding_has_its_tables() {
    let model = twins(5);
    let sample = own_text(&model, 16, 5);
    let mut subject = ModelSubject::new(model);
    let before = subject.run(&Request::of(sample.tokens())).unwrap().loss;
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(5)).unwrap();
    material.replicates = 50;
    let found = ExpertMerging.run(&mut material).unwrap();
    assert_eq!(found.tables.len(), 3);
    assert!(
        found.figures[0].title.contains("with neurons matched it changes by less than 0.001"),
        "{}",
        found.figures[0].title
    );
    drop(material);
    assert_eq!(subject.run(&Request::of(sample.tokens())).unwrap().loss, before);
}

#[test]
fn too_few_documents_are_refused() {
    let model = twins(6);
    let samples = [own_text(&model, 1, 6)];
    let mut subject = ModelSubject::new(model);
    assert!(barriers(&mut subject, &samples, Seed(1), resampling(1)).is_err());
    assert!(merging_curve(&mut subject, &samples, Seed(1), resampling(1)).is_err());
}

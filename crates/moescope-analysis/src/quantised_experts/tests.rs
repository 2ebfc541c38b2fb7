use super::usage::correlation;
use super::*;
use crate::instrument::{Instrument, Material};
use crate::planted_model::{EXPERTS, batch, model, own_text, resampling};
use moescope_base::{Request, Seed, Subject};
use moescope_model::{Model, ModelSubject};

fn run(model: &Model, seed: u64) -> Vec<Rounded> {
    let samples = [own_text(model, 24, seed)];
    rounded_parts(&mut ModelSubject::new(model.clone()), &samples, Seed(seed), resampling(seed)).unwrap()
}

fn of(found: &[Rounded], part: Part, bits: u32) -> &Rounded {
    found.iter().find(|r| (r.part, r.bits, r.grouping) == (part, bits, Grouping::Row)).unwrap()
}

#[test]
fn fewer_bits_cost_more_and_what_writes_nothing_costs_nothing() {
    let found = run(&model(2, 1, |_, _| {}), 1);
    assert_eq!(found.len(), 50);
    let (two, eight) = (of(&found, Part::Experts, 2), of(&found, Part::Experts, 8));
    assert!(two.loss.low > 0.0 && two.loss.estimate > 20.0 * eight.loss.estimate.abs(), "{two:?} {eight:?}");
    assert!(two.error > 0.3 && eight.error < 0.02 && two.noise > 0.0);
    // Attention is all zeros: rounding finds nothing to round.
    let attention = of(&found, Part::Attention, 2);
    assert_eq!((attention.loss.estimate, attention.noise, attention.error), (0.0, 0.0, 0.0));
    let (most, least) = (of(&found, Part::MostUsed, 2), of(&found, Part::LeastUsed, 2));
    assert!(most.loss.estimate > least.loss.estimate, "{most:?} {least:?}");
}

#[test]
fn weights_on_the_levels_are_not_moved() {
    // Signs alone: two bits hold them.
    let signs = model(1, 2, |name, data| {
        if name.contains("mlp.experts") {
            data.iter_mut().for_each(|x| *x = 0.25 * x.signum());
        }
    });
    let found = run(&signs, 2);
    assert!(found.iter().filter(|r| r.part == Part::Experts && r.bits == 2).all(|r| r.loss.high == 0.0));
}

#[test]
fn a_cost_that_follows_use_is_found_and_an_idle_expert_costs_nothing() {
    let shares: Vec<f64> = (1..13).map(|expert| f64::from(expert) / 78.0).collect();
    let sizes: Vec<f64> =
        shares.iter().enumerate().map(|(at, share)| share * (1.0 + 0.1 * (at % 3) as f64)).collect();
    let test = correlation(shares, &sizes, 199, Seed(3)).unwrap();
    assert!(test.observed > 0.9 && test.p_value <= 0.01, "{test:?}");
    // Experts 3, 4 and 5 have the row of expert 2, which wins ties: of the four at most two are chosen, always the first.
    let idle = model(1, 3, |name, data| {
        if name.contains("mlp.gate") {
            let width = data.len() / EXPERTS;
            (3..EXPERTS).for_each(|expert| data.copy_within(2 * width..3 * width, expert * width));
        }
    });
    let samples = [own_text(&idle, 24, 3)];
    let found = usage_effect(&mut ModelSubject::new(idle), &samples, 99, Seed(3)).unwrap();
    assert_eq!(found.experts.len(), EXPERTS);
    assert!(found.experts.iter().all(|(_, _, share, loss)| *share > 0.0 || *loss == 0.0), "{found:?}");
    assert!(found.experts[4].2 == 0.0 && found.experts[5].2 == 0.0, "{found:?}");
    assert!(found.experts.iter().any(|(_, _, share, loss)| *share > 0.0 && *loss != 0.0), "{found:?}");
}

#[test]
fn costs_without_regard_to_use_are_called_predicted_at_the_stated_rate() {
    let called = |seed: &u64| {
        let mut rng = Seed(*seed).rng();
        let mut draw = || (0..12).map(|_| crate::matrix::normal(&mut rng)).collect::<Vec<f64>>();
        let (shares, sizes) = (draw(), draw());
        correlation(shares, &sizes, 99, Seed(*seed)).unwrap().p_value <= 0.05
    };
    let rate = (0..200).filter(called).count();
    assert!(rate < 20, "{rate} of 200");
}

#[test]
fn titles_leave_open_what_intervals_and_p_values_leave_open() {
    let titled = |use_of: &[f64], cost: &[f64]| {
        let test = correlation(use_of.to_vec(), cost, 99, Seed(3)).unwrap();
        let experts = use_of.iter().zip(cost).enumerate().map(|(at, (share, loss))| (0, at, *share, *loss));
        super::instrument::usage_finding(&UsageEffect { experts: experts.collect(), correlation: Some(test) })
    };
    let shares: Vec<f64> = (1..13).map(|expert| f64::from(expert) / 78.0).collect();
    assert!(titled(&shares, &shares).starts_with("Rounding an expert matters the more it is used"));
    let mixed = titled(&shares, &[3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0, 5.5, 3.5, 5.8, 2.9]);
    assert!(mixed.starts_with("These experts leave open whether"), "{mixed}");
    let title = super::instrument::finding(&run(&model(2, 1, |_, _| {}), 1));
    // Attention is all zeros, and nothing can be told of it.
    assert!(title.contains("attention +0.000 (+0.000 to +0.000, not told from 0)"), "{title}");
}

#[test]
fn the_names_of_experts_do_not_matter() {
    let renamed = model(1, 4, |name, data| {
        if name.contains("mlp.experts") || name.contains("mlp.gate") {
            let parts: Vec<Vec<f32>> = data.chunks(data.len() / EXPERTS).rev().map(<[f32]>::to_vec).collect();
            data.copy_from_slice(&parts.concat());
        }
    });
    let (own, other) = (run(&model(1, 4, |_, _| {}), 4), run(&renamed, 4));
    for (own, other) in own.iter().zip(&other) {
        assert!((own.loss.estimate - other.loss.estimate).abs() < 1e-4, "{own:?} {other:?}");
    }
}

#[test]
fn the_model_is_as_it_was_and_the_finding_has_its_tables() {
    let model = model(1, 5, |_, _| {});
    let sample = own_text(&model, 16, 5);
    let mut subject = ModelSubject::new(model);
    let before = subject.run(&Request::of(sample.tokens())).unwrap().loss;
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(5)).unwrap();
    material.replicates = 50;
    let found = QuantisedExperts.run(&mut material).unwrap();
    let names: Vec<&str> = found.tables.iter().map(|table| table.name()).collect();
    assert_eq!(names, ["quantised_parts", "quantised_domains", "quantised_usage", "quantised_correlation"]);
    drop(material);
    assert_eq!(subject.run(&Request::of(sample.tokens())).unwrap().loss, before);
}

#[test]
fn a_model_without_experts_is_refused() {
    use moescope_model::{FeedForward, Model};
    let mut description = model(1, 6, |_, _| {}).description().clone();
    description.feed_forward = vec![FeedForward::Dense { width: 8 }];
    let dense = Model::initialise(description, Seed(6)).unwrap();
    let samples = [own_text(&model(1, 6, |_, _| {}), 4, 6)];
    assert!(rounded_parts(&mut ModelSubject::new(dense), &samples, Seed(6), resampling(6)).is_err());
}

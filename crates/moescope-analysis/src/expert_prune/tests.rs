use super::curve::lowest;
use super::*;
use crate::instrument::{Instrument, Material};
use crate::planted_model::{EXPERTS, batch, model, own_text, resampling};
use crate::statistics::bootstrap;
use crate::wording::found;
use moescope_base::{Request, Seed, Subject};
use moescope_model::{Model, ModelSubject};

fn run(model: &Model, seed: u64) -> Vec<Pruned> {
    let samples = [own_text(model, 24, seed)];
    pruning_curves(&mut ModelSubject::new(model.clone()), &samples, Seed(seed), resampling(seed)).unwrap()
}

fn of(found: &[Pruned], way: Way, criterion: Criterion, share: f64) -> &Pruned {
    let fits = |p: &&Pruned| p.way == way && p.criterion == criterion && (p.share - share).abs() < 1e-9;
    found.iter().find(fits).unwrap()
}

/// Experts 1, 3 and 4 of the layer write nothing.
fn idle(seed: u64) -> Model {
    model(1, seed, |name, data| {
        if name.contains("down_proj") {
            let size = data.len() / EXPERTS;
            [1, 3, 4].into_iter().for_each(|expert| data[expert * size..(expert + 1) * size].fill(0.0));
        }
    })
}

#[test]
fn the_lowest_by_hand() {
    assert_eq!(lowest(&[3.0, 1.0, 2.0, 1.0], 2), [1, 3]);
    assert_eq!(lowest(&[1.0, 1.0, 1.0], 1), [0], "of equal ones the first");
    assert!(lowest(&[1.0], 0).is_empty());
}

#[test]
fn experts_that_say_nothing_go_first_and_cost_nothing() {
    let found = run(&idle(1), 1);
    for criterion in [Criterion::Answer, Criterion::Loss] {
        let half = of(&found, Way::Missing, criterion, 0.5);
        assert!(half.loss.high < 1e-5 && half.saved.low > 0.0 && half.random > 0.0, "{half:?}");
    }
    // Of six experts, an eighth is one, a quarter two and three quarters four, because two must stay.
    let shares: Vec<usize> = found.iter().map(|point| point.removed).collect();
    assert!([1, 2, 3, 4].into_iter().all(|removed| shares.iter().filter(|r| **r == removed).count() == 8));
}

#[test]
fn where_all_say_nothing_no_criterion_spares_anything() {
    let silent = model(1, 2, |name, data| {
        if name.contains("down_proj") {
            data.fill(0.0);
        }
    });
    assert!(run(&silent, 2).iter().all(|point| point.saved.low == 0.0 && point.saved.high == 0.0));
}

#[test]
fn a_criterion_that_knows_nothing_is_called_better_than_chance_at_the_stated_rate() {
    // What a random choice spares beyond another, document by document.
    let called = |seed: &u64| {
        let mut rng = Seed(*seed).rng();
        let saved: Vec<f64> = (0..32).map(|_| crate::matrix::normal(&mut rng)).collect();
        let mean = |drawn: &[usize]| drawn.iter().map(|at| saved[*at]).sum::<f64>() / drawn.len() as f64;
        bootstrap(32, mean, resampling(*seed)).unwrap().low > 0.0
    };
    let rate = (0..200).filter(called).count();
    // One end of a 95 % interval: 2.5 % of 200, and 15 or more in less than 1 of 1000 cases; percentile intervals are a little narrow.
    assert!(rate < 15, "{rate} of 200");
}

#[test]
fn the_title_names_what_spares_beyond_chance_and_says_so_where_nothing_does() {
    let point = |criterion: Criterion, low: f64| Pruned {
        way: Way::Rerouted,
        criterion,
        share: 0.5,
        removed: 4,
        loss: found(0.1, 0.0, 0.2),
        random: 0.12,
        saved: found(0.02, low, 0.05),
    };
    let open =
        super::instrument::expert_finding(&[point(Criterion::Use, -0.01), point(Criterion::Loss, 0.0)]);
    assert!(open.ends_with("no criterion is told from random ones (95 % each)"), "{open}");
    let one =
        super::instrument::expert_finding(&[point(Criterion::Use, -0.01), point(Criterion::Loss, 0.01)]);
    assert!(one.contains("only `least loss` spares"), "{one}");
    let points = [point(Criterion::Use, 0.01), point(Criterion::Answer, 0.02), point(Criterion::Loss, 0.01)];
    let more = super::instrument::expert_finding(&points);
    assert!(
        more.contains("least used, smallest answer and least loss spare something beyond chance"),
        "{more}"
    );
}

#[test]
fn neurons_that_write_nothing_go_first_and_cost_nothing() {
    // Half of the neurons of each expert write nothing.
    let half = model(2, 3, |name, data| {
        if name.contains("down_proj") {
            data.chunks_exact_mut(8).for_each(|row| row.iter_mut().step_by(2).for_each(|x| *x = 0.0));
        }
    });
    let samples = [own_text(&half, 24, 3)];
    let mut subject = ModelSubject::new(half);
    let found = neuron_pruning(&mut subject, &samples, Seed(3), resampling(3)).unwrap();
    assert_eq!(found.len(), 2 * SHARES.len());
    for point in &found {
        match point.share <= 0.5 {
            true => assert!(point.loss.high < 1e-5 && point.random > 0.0, "{point:?}"),
            false => assert!(point.loss.low > 0.0, "{point:?}"),
        }
    }
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
    let model = idle(5);
    let sample = own_text(&model, 16, 5);
    let mut subject = ModelSubject::new(model);
    let before = subject.run(&Request::of(sample.tokens())).unwrap().loss;
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(5)).unwrap();
    material.replicates = 50;
    let found = ExpertPruning.run(&mut material).unwrap();
    assert_eq!(found.tables.len(), 2);
    assert!(found.figures[0].title.starts_with("Without 50 % of the experts"), "{}", found.figures[0].title);
    drop(material);
    assert_eq!(subject.run(&Request::of(sample.tokens())).unwrap().loss, before);
}

#[test]
fn too_few_documents_and_a_model_without_a_choice_are_refused() {
    let model = idle(6);
    let samples = [own_text(&model, 3, 6)];
    let mut subject = ModelSubject::new(model);
    assert!(pruning_curves(&mut subject, &samples, Seed(1), resampling(1)).is_err());
    assert!(neuron_pruning(&mut subject, &samples, Seed(1), resampling(1)).is_err());
}

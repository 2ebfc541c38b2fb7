//! Whole trainings: what is planted is found, and where nothing is planted nothing is.

use std::ops::ControlFlow;

use moescope_base::Seed;
use moescope_engine::Tensor;

use super::*;
use crate::testing::numbers;
use crate::{Evaluation, Planted, PlantedSettings, Rows, Rule, SourceError, recovery};

fn world(target: Option<usize>) -> Planted {
    let settings =
        PlantedSettings { features: 24, width: 32, target, active: 2.0, noise: 0.02, seed: Seed(11) };
    Planted::new(settings)
}

fn settings(kind: Kind, seed: u64) -> Settings {
    // Rows have two features on average, some more; a choice of the same number for each row needs room for them.
    let k = if kind == Kind::TopK { 3 } else { 2 };
    let penalty = if kind == Kind::Relu { 0.4 } else { 1.0 };
    Settings { batch: 256, penalty, ..Settings::new(kind, 32, k, 300_000, Seed(seed)) }
}

fn trained(source: &mut dyn ActivationStream, settings: &Settings) -> Trained {
    train(source, settings, Place::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

/// What a dictionary does on fresh rows of the world.
fn evaluated(dictionary: &Dictionary, target: Option<usize>) -> Evaluation {
    let mut fresh = world(target);
    fresh.rows(100).unwrap();
    let rows = fresh.rows(4000).unwrap().0;
    let mut found = Evaluation::new(dictionary);
    found.add(dictionary, &rows, &vec![0; 4000]).unwrap();
    found
}

/// A penalty on the size of features makes them too small, which is what the other kinds were invented against.
fn least_explained(kind: Kind) -> f64 {
    if kind == Kind::Relu { 0.8 } else { 0.9 }
}

#[test]
fn every_kind_finds_planted_features_and_none_leaves_many_dead() {
    for kind in Kind::ALL {
        let truth = world(None).directions().clone();
        let outcome = trained(&mut world(None).stream(512), &settings(kind, 5));
        let found = recovery(&truth, &outcome.dictionary.directions()).unwrap();
        let measured = evaluated(&outcome.dictionary, None);
        let (explained, active) = (measured.explained_variance(&[0]), measured.active(&[0]));
        assert!(found.found > 0.85 && found.mean > 0.95, "{kind:?}: {found:?}");
        assert!(explained > least_explained(kind), "{kind:?}: {explained}");
        assert!((1.5..3.5).contains(&active), "{kind:?}: {active}");
        // Eight of the 32 features have nothing to do.
        assert!(measured.dead_share() < 0.3, "{kind:?}");
    }
}

#[test]
fn a_transcoder_finds_the_directions_that_its_target_is_made_of() {
    for kind in Kind::ALL {
        let truth = world(Some(20)).directions().clone();
        let outcome = trained(&mut world(Some(20)).stream(512), &settings(kind, 6));
        let found = recovery(&truth, &outcome.dictionary.directions()).unwrap();
        let explained = evaluated(&outcome.dictionary, Some(20)).explained_variance(&[0]);
        assert!(
            found.found > 0.8 && explained > least_explained(kind) - 0.1,
            "{kind:?}: {} {explained}",
            found.found
        );
    }
}

/// Rows of independent normal numbers hold no feature: two trainings do not find each other's directions, and no more is explained
/// than the largest few of random directions would explain.
#[test]
fn in_gaussian_rows_nothing_is_found_twice() {
    let gaussian = |mut seed: u64| {
        move || -> Result<Option<Rows>, SourceError> {
            seed += 1;
            Ok(Some(Rows::of(numbers(&[512, 32], seed))))
        }
    };
    let [one, other] = [(1000, 5), (900_000, 6)].map(|(rows, seed)| {
        let settings = Settings { rows: 150_000, ..settings(Kind::TopK, seed) };
        trained(&mut gaussian(rows), &settings).dictionary
    });
    let found = recovery(&one.directions(), &other.directions()).unwrap();
    let [a, b] = [1, 2].map(|seed| crate::draws::directions(32, 32, Seed(seed)));
    let null = recovery(&a, &b).unwrap();
    assert!(found.found < 0.05 && (found.mean - null.mean).abs() < 0.1, "{} {}", found.mean, null.mean);
    let rows = Rows::of(numbers(&[4000, 32], 77));
    let mut learned = Evaluation::new(&one);
    learned.add(&one, &rows, &vec![0; 4000]).unwrap();
    let random = crate::random_like(&one, &rows, 3, Seed(3)).unwrap();
    let mut drawn = Evaluation::new(&random);
    drawn.add(&random, &rows, &vec![0; 4000]).unwrap();
    let (learned, drawn) = (learned.explained_variance(&[0]), drawn.explained_variance(&[0]));
    assert!(learned < 0.5 && learned - drawn < 0.15, "{learned} {drawn}");
}

#[test]
fn directions_have_the_length_one_and_the_aim_is_met_by_choice() {
    let settings = Settings { rows: 20_000, ..settings(Kind::TopK, 3) };
    let outcome = trained(&mut world(None).stream(300), &settings);
    let directions = outcome.dictionary.directions();
    for row in directions.data().chunks(32) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }
    assert!(outcome.last.active <= 3.0);
    assert_eq!(outcome.dictionary.rule(), &Rule::TopK { k: 3 });
}

#[test]
fn the_seed_decides_everything_and_the_number_of_threads_nothing() {
    let with = |threads: usize, seed: u64, kind: Kind| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let settings = Settings { rows: 10_000, ..settings(kind, seed) };
        pool.install(|| trained(&mut world(None).stream(300), &settings))
    };
    for kind in Kind::ALL {
        assert_eq!(with(1, 4, kind), with(3, 4, kind));
        assert_ne!(with(1, 4, kind).dictionary, with(1, 5, kind).dictionary);
    }
}

#[test]
fn a_watcher_can_stop_and_wrong_sources_are_refused() {
    let mut told = 0;
    let mut watch = |report: &StepReport| {
        told += 1;
        if report.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = train(&mut world(None).stream(300), &settings(Kind::Relu, 1), Place::default(), &mut watch);
    assert!(matches!(stopped, Err(DictionaryError::Stopped { steps: 3 })));
    assert_eq!(told, 3);
    let refused = |rows: Vec<Rows>| {
        let mut rows = rows.into_iter();
        let mut source = move || Ok(rows.next());
        let watch = &mut |_: &StepReport| ControlFlow::Continue(());
        train(&mut source, &settings(Kind::TopK, 1), Place::default(), watch).unwrap_err().to_string()
    };
    assert!(refused(vec![]).contains("there are 0 rows"));
    assert!(refused(vec![Rows::of(numbers(&[100, 4], 1))]).contains("there are 100 rows"));
    assert!(refused(vec![Rows::of(Tensor::full([300, 4], 2.0))]).contains("equal"));
    assert!(refused(vec![Rows::of(Tensor::full([300, 4], f32::INFINITY))]).contains("not finite"));
}

#[test]
fn features_that_died_are_set_anew() {
    // A penalty that silences most features before a quarter of the steps, at which time the dead are counted.
    let settings =
        Settings { penalty: 1.5, dead_after: 2_000, rows: 60_000, warm_up: 0.02, ..settings(Kind::Relu, 8) };
    let mut dead = Vec::new();
    let mut watch = |report: &StepReport| {
        dead.push(report.dead);
        ControlFlow::Continue(())
    };
    let outcome = train(&mut world(None).stream(512), &settings, Place::default(), &mut watch).unwrap();
    assert!(outcome.resampled > 0, "{dead:?}");
    let at = settings.steps() as usize / 4;
    assert!(dead[at - 2] > 0 && dead[at - 1] == 0, "{:?}", &dead[at - 3..at + 2]);
}

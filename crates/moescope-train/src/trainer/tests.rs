use super::*;
use crate::testing::{Family, Pattern, plan, trained};
use crate::{Batch, read_metrics};
use std::cell::Cell;
use std::fs;

/// Trains into a folder; the watcher sets the stop flag after the given step.
fn run_until(plan: &TrainPlan, folder: &Path, last: u64) -> Result<Outcome, TrainError> {
    let stop = AtomicBool::new(false);
    let mut watch = |row: &StepMetrics| stop.store(row.step >= last, Ordering::Relaxed);
    train(plan, &Pattern::of(plan), Some(folder), &mut watch, &stop)
}

fn done(outcome: Outcome) -> Trained {
    match outcome {
        Outcome::Done(trained) => trained,
        Outcome::Interrupted { step } => panic!("interrupted at step {step}"),
    }
}

fn assert_same(one: &Trained, two: &Trained) {
    assert_eq!(one.metrics, two.metrics);
    for (left, right) in one.model.parameters().iter().zip(two.model.parameters()) {
        assert_eq!(left.tensor, right.tensor, "{}", left.name);
    }
    for layer in 0..one.model.description().feed_forward.len() {
        assert_eq!(one.model.selection_bias(layer), two.model.selection_bias(layer));
    }
}

fn resumes_exactly(plan: &TrainPlan) {
    let straight = trained(plan, &Pattern::of(plan));
    let folder = tempfile::tempdir().unwrap();
    let first = run_until(plan, folder.path(), 10).unwrap();
    assert!(matches!(first, Outcome::Interrupted { step: 10 }));
    let second = done(run_until(plan, folder.path(), u64::MAX).unwrap());
    assert_same(&straight, &second);
    assert_eq!(read_metrics(&folder.path().join("metrics.parquet")).unwrap(), straight.metrics);
    assert!(!folder.path().join("resume.state").exists());
}

#[test]
fn ten_steps_and_ten_more_are_twenty_steps() {
    resumes_exactly(&plan(Family::Dense, 20));
    resumes_exactly(&plan(Family::Moe, 20));
    resumes_exactly(&plan(Family::Random, 20));
    resumes_exactly(&TrainPlan { clip: f32::INFINITY, ..plan(Family::Dense, 20) });
    let mut loss_free = plan(Family::Moe, 20);
    loss_free.balance.loss_free = Some(0.01);
    resumes_exactly(&loss_free);
}

#[test]
fn every_family_learns_the_pattern() {
    for family in Family::ALL {
        let metrics = trained(&plan(family, 40), &Pattern::of(&plan(family, 40))).metrics;
        let (first, last) = (metrics[0].loss, metrics[39].loss);
        assert!(last < 0.5 * first, "{family:?}: {first} to {last}");
        assert_eq!(metrics[39].tokens, 40 * 64);
    }
}

#[test]
fn a_frozen_router_stays_and_a_learned_one_moves() {
    let router = |model: &Model| {
        let named = |name: &str| name.contains("mlp.gate.weight");
        model.parameters().iter().find(|p| named(&p.name)).unwrap().tensor.clone()
    };
    for (family, moves) in [(Family::Frozen, false), (Family::Moe, true), (Family::Committee, true)] {
        let plan = plan(family, 5);
        let before = router(&State::start(&plan).unwrap().model);
        let after = router(&trained(&plan, &Pattern::of(&plan)).model);
        assert_eq!(before != after, moves, "{family:?}");
    }
}

/// Mean load violation of the last ten of sixty steps, from selection biases that give the first two of four experts all
/// tokens: a violation of 1.
fn violation_from_skewed_start(balance: crate::Balance) -> f64 {
    let mut plan = plan(Family::Moe, 60);
    // With few sequences the load of one batch is uneven by chance, whatever the router does.
    (plan.balance, plan.batch) = (balance, 32);
    let mut state = State::start(&plan).unwrap();
    (0..2).for_each(|layer| state.model.set_selection_bias(layer, vec![0.3, 0.3, 0.0, 0.0]));
    let batches = Pattern::of(&plan);
    for step in 0..plan.steps {
        state.advance(&moescope_engine::Cpu, &plan, &batches.batch(step)).unwrap();
    }
    state.metrics[50..].iter().map(|row| row.load_max_violation).sum::<f64>() / 10.0
}

#[test]
fn both_kinds_of_balancing_even_a_skewed_start() {
    let none = violation_from_skewed_start(crate::Balance::NONE);
    let loss = violation_from_skewed_start(crate::Balance { loss: 1.0, ..crate::Balance::NONE });
    let free = violation_from_skewed_start(crate::Balance { loss_free: Some(0.02), ..crate::Balance::NONE });
    assert!(loss < 0.6 * none, "balance loss: {loss}, without {none}");
    assert!(free < 0.6 * none, "loss-free: {free}, without {none}");
}

#[test]
fn making_values_again_changes_no_bit() {
    for family in [Family::Moe, Family::Dense, Family::TopKDense] {
        let kept = plan(family, 6);
        let again = TrainPlan { recompute: true, ..kept.clone() };
        assert_same(&trained(&kept, &Pattern::of(&kept)), &trained(&again, &Pattern::of(&kept)));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for family in [Family::Moe, Family::Dense] {
        let plan = plan(family, 8);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trained(&plan, &Pattern::of(&plan)))
        };
        assert_same(&with(1), &with(2));
    }
}

#[test]
fn a_folder_holds_checkpoints_metrics_and_the_model() {
    let mut plan = plan(Family::Moe, 6);
    (plan.checkpoints, plan.save_every) = (vec![0, 3], Some(2));
    let folder = tempfile::tempdir().unwrap();
    let trained = done(run_until(&plan, folder.path(), u64::MAX).unwrap());
    let tensors = |model: &Model| model.parameters().iter().map(|p| p.tensor.clone()).collect::<Vec<_>>();
    let opened = |path: &Path| tensors(&Model::open(path).unwrap());
    let drawn = State::start(&plan).unwrap().model;
    assert_eq!(opened(folder.path()), tensors(&trained.model));
    assert_eq!(opened(&folder.path().join("checkpoints/step-000000")), tensors(&drawn));
    assert_ne!(opened(&folder.path().join("checkpoints").join(checkpoint_name(3))), tensors(&drawn));
    assert_eq!(read_metrics(&folder.path().join("metrics.parquet")).unwrap().len(), 6);
}

#[test]
fn a_killed_run_goes_on_from_its_last_resume_state() {
    let mut plan = plan(Family::Dense, 9);
    plan.save_every = Some(4);
    let folder = tempfile::tempdir().unwrap();
    run_until(&plan, folder.path(), 6).unwrap();
    // The state of step 6 is lost, as if the process had been killed; that of step 4 is what a kill leaves.
    let early = tempfile::tempdir().unwrap();
    let mut killed = State::start(&plan).unwrap();
    let batches = Pattern::of(&plan);
    (0..4).for_each(|step| killed.advance(&moescope_engine::Cpu, &plan, &batches.batch(step)).unwrap());
    save_state(&early.path().join("resume.state"), &plan, &batches, &killed).unwrap();
    let seen = Cell::new(0);
    let outcome = train(
        &plan,
        &batches,
        Some(early.path()),
        &mut |_| seen.set(seen.get() + 1),
        &AtomicBool::new(false),
    );
    assert_same(&done(outcome.unwrap()), &trained(&plan, &batches));
    assert_eq!(seen.get(), 5);
}

#[test]
fn a_stop_before_the_first_step_does_nothing() {
    let plan = plan(Family::Dense, 5);
    let outcome = train(&plan, &Pattern::of(&plan), None, &mut |_| (), &AtomicBool::new(true)).unwrap();
    assert!(matches!(outcome, Outcome::Interrupted { step: 0 }));
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a file");
    fs::write(&path, "").unwrap();
    let error = run_until(&plan(Family::Dense, 2), &path.join("run"), 1).unwrap_err().to_string();
    assert!(error.contains("cannot make the folder") && error.contains("a file"), "{error}");
}

#[test]
fn a_failed_save_keeps_the_last_good_state() {
    let plan = plan(Family::Dense, 6);
    let folder = tempfile::tempdir().unwrap();
    run_until(&plan, folder.path(), 2).unwrap();
    let good = fs::read(folder.path().join("resume.state")).unwrap();
    // A folder where the half-written file should go refuses every write, for every user.
    let unfinished = format!(".resume.state.{}.unfinished", std::process::id());
    fs::create_dir(folder.path().join(unfinished)).unwrap();
    let error = run_until(&plan, folder.path(), 4).unwrap_err().to_string();
    assert!(error.contains("cannot write"), "{error}");
    assert_eq!(fs::read(folder.path().join("resume.state")).unwrap(), good);
}

/// Batches that were drawn from something of another content.
struct Renamed(Pattern);

impl Batches for Renamed {
    fn batch(&self, step: u64) -> Batch {
        self.0.batch(step)
    }

    fn content(&self) -> String {
        "another text with the same first and last batch".into()
    }
}

#[test]
fn text_that_changed_between_the_batches_compared_is_noticed() {
    let plan = plan(Family::Dense, 6);
    let folder = tempfile::tempdir().unwrap();
    run_until(&plan, folder.path(), 2).unwrap();
    let other = Renamed(Pattern::of(&plan));
    let error = train(&plan, &other, Some(folder.path()), &mut |_| (), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::OtherData { .. }), "{error}");
}

/// Batches whose targets leave the vocabulary at one step.
struct Foreign(Pattern);

impl Batches for Foreign {
    fn batch(&self, step: u64) -> Batch {
        let mut batch = self.0.batch(step);
        if step == 1 {
            batch.targets[0] = 1000;
        }
        batch
    }
}

#[test]
fn a_target_outside_the_vocabulary_is_an_error() {
    let plan = plan(Family::Dense, 3);
    let batches = Foreign(Pattern::of(&plan));
    assert!(train(&plan, &batches, None, &mut |_| (), &AtomicBool::new(false)).is_err());
}

#[test]
fn a_run_that_blows_up_says_at_which_step() {
    let mut plan = plan(Family::Dense, 30);
    (plan.learning_rate, plan.clip) = (1e38, f32::INFINITY);
    let error = train(&plan, &Pattern::of(&plan), None, &mut |_| (), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert!(error.to_string().contains("lower the learning rate"));
}

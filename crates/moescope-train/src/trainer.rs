use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use moescope_engine::{Cpu, Device};
use moescope_host::{FolderLock, make_folder, sweep};
use moescope_model::Model;

use crate::checkpoint::{load_state, save_state};
use crate::step::State;
use crate::{Batches, StepMetrics, TrainError, TrainPlan, files, write_metrics};

/// How a call of [`train`] ended.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a run has one outcome, so its size does not matter
pub enum Outcome {
    /// All steps are done.
    Done(Trained),
    /// It was stopped. With a folder, the same call goes on from here; without one, the work is lost.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// A trained model with the story of its training.
#[derive(Debug)]
pub struct Trained {
    /// The model after the last step.
    pub model: Model,
    /// One entry per step.
    pub metrics: Vec<StepMetrics>,
}

/// Trains a model from its initial weights, or goes on where an earlier call stopped.
///
/// Runs in the caller's rayon pool. Weights and metrics are the same bits for any number of threads, and whether or not the
/// run was interrupted.
///
/// With a `folder`, which is made if need be, it writes
/// - `resume.state` every `save_every` steps and when stopped (removed at the end);
/// - `checkpoints/step-000100/`, a model folder, after each step named in `checkpoints`;
/// - `metrics.parquet`, one row per step ([`write_metrics`]);
/// - at the end the model itself, as a Hugging Face folder.
///
/// Each file appears whole or not at all. The manifest `run.json` is the caller's ([`crate::Manifest`]).
///
/// `watch` hears of each step once, resumed steps not again. When `stop` becomes true, the step in progress is finished.
///
/// # Errors
/// [`TrainError`]: a plan or batch that cannot be trained, a resume state of another run, numbers that are not finite, a disk
/// that is full. The last resume state stays good.
pub fn train(
    plan: &TrainPlan,
    batches: &dyn Batches,
    folder: Option<&Path>,
    watch: &mut dyn FnMut(&StepMetrics),
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    train_on(&Cpu, plan, batches, folder, watch, stop)
}

/// [`train`] on a device of the caller's choice.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    device: &dyn Device,
    plan: &TrainPlan,
    batches: &dyn Batches,
    folder: Option<&Path>,
    watch: &mut dyn FnMut(&StepMetrics),
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    plan.check()?;
    plan.require_memory()?;
    let folder = folder.map(|path| RunFolder::open(path, plan, batches)).transpose()?;
    let mut state = match &folder {
        Some(folder) => folder.begin()?,
        None => State::start(plan)?,
    };
    while state.step < plan.steps {
        if stop.load(Ordering::Relaxed) {
            return interrupt(state, folder.as_ref());
        }
        state.advance(device, plan, &batches.batch(state.step))?;
        watch(state.metrics.last().expect("a step was done"));
        if let Some(folder) = &folder {
            folder.keep(&state)?;
        }
    }
    if let Some(folder) = &folder {
        folder.finish(&state)?;
    }
    Ok(Outcome::Done(Trained { model: state.model, metrics: state.metrics }))
}

fn interrupt(state: State, folder: Option<&RunFolder<'_>>) -> Result<Outcome, TrainError> {
    if let Some(folder) = folder {
        folder.save(&state)?;
    }
    Ok(Outcome::Interrupted { step: state.step })
}

/// The folder of a run and what is written there.
struct RunFolder<'a> {
    path: PathBuf,
    plan: &'a TrainPlan,
    batches: &'a dyn Batches,
    /// Keeps a second training out for as long as this one lasts.
    _lock: FolderLock,
}

impl<'a> RunFolder<'a> {
    fn open(path: &Path, plan: &'a TrainPlan, batches: &'a dyn Batches) -> Result<Self, TrainError> {
        make_folder(path)?;
        let lock = FolderLock::take(path)?;
        sweep(path)?;
        Ok(RunFolder { path: path.into(), plan, batches, _lock: lock })
    }

    fn begin(&self) -> Result<State, TrainError> {
        if let Some(state) = load_state(&self.resume_path(), self.plan, self.batches)? {
            return Ok(state);
        }
        let state = State::start(self.plan)?;
        self.keep_checkpoint(&state)?;
        Ok(state)
    }

    /// Keeps what is due after a step.
    fn keep(&self, state: &State) -> Result<(), TrainError> {
        self.keep_checkpoint(state)?;
        let due = self.plan.save_every.is_some_and(|every| state.step.is_multiple_of(every));
        if due && state.step < self.plan.steps { self.save(state) } else { Ok(()) }
    }

    fn keep_checkpoint(&self, state: &State) -> Result<(), TrainError> {
        if self.plan.checkpoints.contains(&state.step) {
            let folder = self.path.join("checkpoints");
            make_folder(&folder)?;
            state.model.save(&folder.join(checkpoint_name(state.step)))?;
        }
        Ok(())
    }

    fn save(&self, state: &State) -> Result<(), TrainError> {
        write_metrics(&self.path.join("metrics.parquet"), &state.metrics)?;
        save_state(&self.resume_path(), self.plan, self.batches, state)
    }

    fn finish(&self, state: &State) -> Result<(), TrainError> {
        write_metrics(&self.path.join("metrics.parquet"), &state.metrics)?;
        state.model.save(&self.path)?;
        files::remove(&self.resume_path())
    }

    fn resume_path(&self) -> PathBuf {
        self.path.join("resume.state")
    }
}

/// Name of the folder, below `checkpoints`, of the model after a number of steps.
pub fn checkpoint_name(step: u64) -> String {
    format!("step-{step:06}")
}

#[cfg(test)]
mod tests;

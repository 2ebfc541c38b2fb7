//! The steps that are timed.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use cpu_time::ProcessTime;
use moescope_base::Seed;
use moescope_engine::{Device, Mode, Tape};
use moescope_model::{Description, Model, Pass};
use moescope_train::{Balance, RandomBatches, Schedule, TrainPlan, train_on};

use super::{BenchArgs, What};
use crate::failure::Failure;

/// Steps that fill caches and memory pools and are not counted.
pub(super) const WARM_UP: u64 = 2;

/// Seconds of one step, by the clock and by CPU time of all threads.
#[derive(Clone, Copy)]
pub(super) struct Lap {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

/// Times the laps between calls. Every lap begins where the one before it ended, so nothing between two steps is
/// lost.
pub(super) struct Watch {
    wall: Instant,
    cpu: ProcessTime,
}

impl Watch {
    /// A watch whose first lap begins now.
    pub(super) fn start() -> Watch {
        Watch { wall: Instant::now(), cpu: ProcessTime::now() }
    }

    /// Ends the lap and begins the next one.
    pub(super) fn lap(&mut self) -> Lap {
        let lap = Lap { wall: self.wall.elapsed().as_secs_f64(), cpu: self.cpu.elapsed().as_secs_f64() };
        *self = Watch::start();
        lap
    }
}

/// The source of tokens for the sizes that were asked for.
pub(super) fn noise(args: &BenchArgs) -> RandomBatches {
    RandomBatches { vocab: args.vocab as u32, batch: args.batch, positions: args.seq }
}

/// What is measured: whole training steps, or forward passes that keep nothing for a gradient.
///
/// Each of `steps` steps is on other tokens in training and on the same ones in a forward pass, where freeing the values is part
/// of the time.
pub(super) fn laps(
    device: &dyn Device,
    args: &BenchArgs,
    description: &Description,
    steps: u64,
) -> Result<Vec<Lap>, Failure> {
    let all = WARM_UP + steps;
    let laps = match args.what {
        What::Train => train_laps(device, args, description, all)?,
        What::Forward => forward_laps(device, args, description, all)?,
    };
    Ok(laps[WARM_UP as usize..].to_vec())
}

/// Times whole training steps. The trainer calls back after every step, which is where the laps are cut.
fn train_laps(
    device: &dyn Device,
    args: &BenchArgs,
    description: &Description,
    steps: u64,
) -> Result<Vec<Lap>, Failure> {
    let plan = TrainPlan {
        description: description.clone(),
        seed: 1,
        steps,
        batch: args.batch,
        positions: args.seq,
        learning_rate: 1e-3,
        schedule: Schedule::Trapezoid { warmup: 0, decay: 0 },
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        clip: 1.0,
        balance: Balance { loss: 0.01, z_loss: 0.001, loss_free: None },
        checkpoints: Vec::new(),
        save_every: None,
        recompute: args.recompute,
    };
    let mut laps = Vec::new();
    let mut watch = Watch::start();
    let stop = AtomicBool::new(false);
    train_on(device, &plan, &noise(args), None, &mut |_| laps.push(watch.lap()), &stop)?;
    Ok(laps)
}

/// Times forward passes that keep nothing for a gradient, each on the same tokens; freeing the values of a pass is
/// part of its time.
fn forward_laps(
    device: &dyn Device,
    args: &BenchArgs,
    description: &Description,
    steps: u64,
) -> Result<Vec<Lap>, Failure> {
    let model = Model::initialise(description.clone(), Seed(1))?;
    let tokens = noise(args).tokens(0);
    let mut laps = Vec::new();
    for _ in 0..steps {
        let mut watch = Watch::start();
        let mut tape = Tape::on(device, Mode::Inference);
        model.forward(&mut tape, &tokens, &mut Pass::plain())?;
        drop(tape);
        laps.push(watch.lap());
    }
    Ok(laps)
}

//! What a study will cost, told before it starts: work by exact counts, speed by a short measurement on this machine.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use moescope_train::{RandomBatches, TrainPlan, train};
use serde::Serialize;

use crate::roster::Run;
use crate::tasks::{task_of, tasks};
use crate::{Family, StudyConfig, StudyError};

/// Steps of the calibration that are not counted: they fill caches and memory pools.
const WARM_UP: u64 = 2;
/// Steps of the calibration that are counted.
const COUNTED: u64 = 6;

/// What a study will take, estimated before it starts.
///
/// - **Does not show:** how fast the machine is when something else runs on it. Work and sizes are computed; the rate
///   is measured over some seconds and carried over to all models, though small and strongly routed ones run at a
///   lower rate.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Name of the study.
    pub study: String,
    /// Models, untrained ones included.
    pub runs: usize,
    /// Seeds.
    pub seeds: u64,
    /// Parameters of the largest model, all experts included.
    pub largest_parameters: u64,
    /// FLOPs of all training and measuring, as in [`Run`]: three forward passes for a training step, and a sixth of
    /// that again for measuring. Untrained models count as nothing.
    pub flops: f64,
    /// FLOPs per second that one core reached in a short calibration on this machine: the dense and the primary MoE
    /// model, in the same arithmetic as `flops`.
    pub flops_per_core_second: f64,
    /// Models that grow at the same time, each on one core; never more than there are models.
    pub workers: usize,
    /// Estimated time in seconds, if every worker is busy to the end.
    pub seconds: f64,
    /// Estimated resident memory in bytes, as if every worker trained the largest model at once: an upper estimate.
    pub memory: u64,
    /// Estimated size of the finished folder in bytes: weights in f32 and some hundred kibibytes for each run.
    pub disk: u64,
}

impl Plan {
    /// Plans a study for that many workers; trains two small models for some steps to see how fast this machine is.
    /// Nothing is written, and no corpus is read: the steps run on arbitrary tokens.
    ///
    /// # Errors
    /// If a model of the study cannot be built.
    pub fn measure(config: StudyConfig, workers: usize) -> Result<Plan, StudyError> {
        let tasks = tasks()?;
        let sizes = |workload| match task_of(&tasks, workload) {
            Some(task) => (task.vocabulary(), task.positions()),
            None => (config.data.vocabulary, config.data.positions),
        };
        let plan_of = |run: &Run| {
            let (vocab, positions) = sizes(run.workload);
            config.train_plan(run, vocab, positions)
        };
        let roster = config.roster();
        let plans: Vec<(&Run, TrainPlan)> = roster.iter().map(|run| (run, plan_of(run))).collect();
        let flops = plans.iter().map(|(run, plan)| run.work(plan, &config)).sum();
        let rate = calibrate(&config, &plan_of)?;
        let parameters: Vec<u64> =
            plans.iter().map(|(_, plan)| plan.description.counts().parameters_total).collect();
        let largest = parameters.iter().copied().max().unwrap_or(0);
        let memory = plans.iter().map(|(_, plan)| plan.memory()).fold(0.0, f64::max);
        let workers = workers.clamp(1, roster.len().max(1));
        Ok(Plan {
            study: config.name.clone(),
            runs: roster.len(),
            seeds: config.seeds,
            largest_parameters: largest,
            flops,
            flops_per_core_second: rate,
            workers,
            seconds: flops / (rate * workers as f64),
            memory: BASE_MEMORY + workers as u64 * memory as u64,
            disk: parameters.iter().map(|p| 4 * p + RUN_OVERHEAD).sum(),
        })
    }
}

/// Program, corpus, tokenizer and tables.
const BASE_MEMORY: u64 = 200 << 20;
/// Tokenizer, metrics and measurements of one run.
const RUN_OVERHEAD: u64 = 200 << 10;

/// FLOPs per second of one core, from training the dense and the primary model on random tokens.
///
/// Each model runs on one thread, as in the study. The first steps are left out of the time, since they fill caches
/// and memory pools.
fn calibrate(config: &StudyConfig, plan_of: &dyn Fn(&Run) -> TrainPlan) -> Result<f64, StudyError> {
    let families =
        [Family::Dense { times: 1 }, Family::Moe { granularity: config.model.primary_granularity }];
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one more thread can be started");
    let (mut flops, mut spent) = (0.0, Duration::ZERO);
    for family in families {
        let run = Run::language(family, config.first_seed);
        let mut plan = plan_of(&run);
        let per_step = run.work(&plan, config) / plan.steps as f64 * 6.0 / 7.0;
        plan.steps = WARM_UP + COUNTED;
        plan.schedule = moescope_train::Schedule::Trapezoid { warmup: 0, decay: 0 };
        plan.save_every = None;
        let batches = RandomBatches {
            vocab: plan.description.vocab as u32,
            batch: plan.batch,
            positions: plan.positions,
        };
        let mut started = Instant::now();
        let mut watch = |metrics: &moescope_train::StepMetrics| {
            if metrics.step == WARM_UP {
                started = Instant::now();
            }
        };
        pool.install(|| train(&plan, &batches, None, &mut watch, &AtomicBool::new(false)))?;
        spent += started.elapsed();
        flops += per_step * COUNTED as f64;
    }
    Ok(flops / spent.as_secs_f64().max(1e-9))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(f, "study        {} ({} models, {} seeds)", self.study, self.runs, self.seeds)?;
        writeln!(f, "largest      {} parameters", self.largest_parameters)?;
        writeln!(f, "work         {:.2e} FLOP", self.flops)?;
        writeln!(
            f,
            "this machine {:.1} GFLOP/s per core, {} models at a time",
            self.flops_per_core_second / 1e9,
            self.workers
        )?;
        writeln!(f, "time         about {:.1} minutes", self.seconds / 60.0)?;
        writeln!(f, "memory       about {} MiB", mebibytes(self.memory))?;
        writeln!(f, "disk         about {} MiB", mebibytes(self.disk))
    }
}

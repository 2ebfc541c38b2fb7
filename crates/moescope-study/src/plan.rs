//! What a study will cost, told before it starts: work by exact counts, speed by a short measurement on this machine.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use moescope_analysis::statistics::{detectable_effect, equivalence_margin};
use moescope_train::{Outcome, RandomBatches, TrainPlan, train};
use serde::Serialize;

use crate::dataset::Dataset;
use crate::roster::{Run, Workload};
use crate::tasks::{task_of, tasks};
use crate::{Family, StudyConfig, StudyError};

/// Steps of the calibration that are not counted: they fill caches and memory pools.
const WARM_UP: u64 = 2;
/// Steps of the calibration that are counted.
const COUNTED: u64 = 6;

/// What a study will take, told before it starts.
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
    /// The models by kind, in the order in which they grow.
    pub kinds: Vec<PlannedKind>,
    /// Parameters of the largest model, all experts included.
    pub largest_parameters: u64,
    /// FLOPs of all training and measuring, as in [`Run`]: three forward passes for a training step, and a sixth of
    /// that again for measuring. Untrained models count as nothing.
    pub flops: f64,
    /// FLOPs per second that one core reached in a short calibration on this machine: the dense and the primary MoE
    /// model, in the same arithmetic as `flops`. None without calibration.
    pub flops_per_core_second: Option<f64>,
    /// Models that grow at the same time, each on one core; never more than there are models.
    pub workers: usize,
    /// Estimated time in seconds, if every worker is busy to the end. None without calibration.
    pub seconds: Option<f64>,
    /// Estimated resident memory in bytes, as if every worker trained the largest model at once: an upper estimate.
    pub memory: u64,
    /// Estimated size of the finished folder in bytes: weights in f32 and some hundred kibibytes for each run.
    pub disk: u64,
    /// What so many seeds can decide.
    pub power: PlannedPower,
}

/// What the planned seeds can decide, four times in five, at 5 % before Holm's correction.
///
/// - **Does not show:** how much the difference between two models varies over seeds; that is known from earlier studies, or after this one.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PlannedPower {
    /// Smallest true difference of two models that a paired t-test over seeds finds, in standard deviations of the difference over seeds.
    pub difference: f64,
    /// Largest standard deviation over seeds of a difference in loss at which equal losses are found equal within the margin, nats.
    pub loss_spread: f64,
    /// That margin, nats.
    pub loss_margin: f64,
}

/// Chance with which [`PlannedPower`] is to find what is there.
const POWER: f64 = 0.8;
/// Level of the tests.
const LEVEL: f64 = 0.05;

impl PlannedPower {
    fn of(config: &StudyConfig) -> Result<PlannedPower, StudyError> {
        let (seeds, loss_margin) = (config.seeds as usize, config.margins.loss);
        Ok(PlannedPower {
            difference: detectable_effect(seeds, LEVEL, POWER)?,
            loss_spread: loss_margin / equivalence_margin(seeds, LEVEL, POWER)?,
            loss_margin,
        })
    }
}

/// The runs that differ in seed and learning rate only, and so in no size and no work.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedKind {
    /// Name of the runs without seed and rate, such as `moe-g4` or `facts-dense-1x`.
    pub name: String,
    /// What they learn.
    pub workload: Workload,
    /// How many there are, over all seeds and learning rates.
    pub runs: usize,
    /// Parameters of one, all experts included.
    pub parameters_total: u64,
    /// Parameters that one token passes through, router included.
    pub parameters_active: u64,
    /// FLOPs of training and measuring one; 0 if it is not trained.
    pub flops_per_run: f64,
    /// Estimated seconds that one takes on its core. None without calibration.
    pub seconds_per_run: Option<f64>,
}

impl Plan {
    /// Plans a study for that many workers by counting alone; `vocabulary` is that of the text, in tokens.
    ///
    /// # Errors
    /// None for the tasks of studies.
    pub fn count(config: &StudyConfig, vocabulary: usize, workers: usize) -> Result<Plan, StudyError> {
        let roster = config.roster();
        let plans = Plans::new(config, vocabulary)?;
        let mut kinds: Vec<PlannedKind> = Vec::new();
        let (mut largest, mut memory, mut disk) = (0, 0.0_f64, 0);
        for run in &roster {
            let plan = plans.of(run);
            let counts = plan.description.counts();
            largest = largest.max(counts.parameters_total);
            memory = memory.max(plan.memory());
            disk += 4 * counts.parameters_total + RUN_OVERHEAD;
            let name = run.kind();
            match kinds.iter_mut().find(|kind| kind.name == name) {
                Some(kind) => kind.runs += 1,
                None => kinds.push(PlannedKind {
                    name,
                    workload: run.workload,
                    runs: 1,
                    parameters_total: counts.parameters_total,
                    parameters_active: counts.parameters_active,
                    flops_per_run: run.work(&plan),
                    seconds_per_run: None,
                }),
            }
        }
        let workers = workers.clamp(1, roster.len().max(1));
        Ok(Plan {
            study: config.name.clone(),
            runs: roster.len(),
            seeds: config.seeds,
            largest_parameters: largest,
            flops: kinds.iter().map(|kind| kind.runs as f64 * kind.flops_per_run).sum(),
            flops_per_core_second: None,
            workers,
            seconds: None,
            memory: BASE_MEMORY + workers as u64 * memory as u64,
            disk,
            kinds,
            power: PlannedPower::of(config)?,
        })
    }

    /// Plans a study for that many workers; trains two small models for some steps to see how fast this machine is.
    /// Nothing is written. The text is prepared as for the study, to see that it can be; the steps run on arbitrary tokens.
    ///
    /// # Errors
    /// [`StudyError::Stopped`] once `stop` is set; otherwise if a model of the study cannot be built, or for whatever the text
    /// would be refused.
    pub fn measure(config: &StudyConfig, workers: usize, stop: &AtomicBool) -> Result<Plan, StudyError> {
        // A text that is not there, or too short, should be noticed now rather than after the plan was agreed to.
        let vocabulary = Dataset::prepare(config, stop)?.facts().vocabulary;
        let plan = Plan::count(config, vocabulary, workers)?;
        let rate = calibrate(config, &Plans::new(config, vocabulary)?, stop)?;
        Ok(plan.at_rate(rate))
    }

    /// The plan with the times that follow from FLOPs per second of one core.
    fn at_rate(mut self, rate: f64) -> Plan {
        for kind in &mut self.kinds {
            kind.seconds_per_run = Some(kind.flops_per_run / rate);
        }
        Plan {
            flops_per_core_second: Some(rate),
            seconds: Some(self.flops / (rate * self.workers as f64)),
            ..self
        }
    }
}

/// How the runs of a study will be trained, known before its text is.
struct Plans<'a> {
    config: &'a StudyConfig,
    vocabulary: usize,
    tasks: std::collections::BTreeMap<Workload, moescope_corpus::tasks::Task>,
}

impl Plans<'_> {
    fn new(config: &StudyConfig, vocabulary: usize) -> Result<Plans<'_>, StudyError> {
        Ok(Plans { config, vocabulary, tasks: tasks()? })
    }

    fn of(&self, run: &Run) -> TrainPlan {
        let (vocabulary, positions) = match task_of(&self.tasks, run.workload) {
            Some(task) => (task.vocabulary(), task.positions()),
            None => (self.vocabulary, self.config.data.positions),
        };
        self.config.train_plan(run, vocabulary, positions)
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
fn calibrate(config: &StudyConfig, plans: &Plans<'_>, stop: &AtomicBool) -> Result<f64, StudyError> {
    let families =
        [Family::Dense { times: 1 }, Family::Moe { granularity: config.model.primary_granularity }];
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one more thread can be started");
    let (mut flops, mut spent) = (0.0, Duration::ZERO);
    for family in families {
        let run = Run::language(family, config.first_seed);
        let mut plan = plans.of(&run);
        let per_step = run.work(&plan) / plan.steps as f64 * 6.0 / 7.0;
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
        let outcome = pool.install(|| train(&plan, &batches, None, &mut watch, stop));
        if let Outcome::Interrupted { .. } = outcome.map_err(|error| StudyError::from(error).in_run(&run))? {
            return Err(StudyError::Stopped { doing: "measuring how fast this machine is" });
        }
        spent += started.elapsed();
        flops += per_step * COUNTED as f64;
    }
    Ok(flops / spent.as_secs_f64().max(1e-9))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        writeln!(f, "study        {} ({} models, {} seeds)", self.study, self.runs, self.seeds)?;
        self.write_kinds(f)?;
        writeln!(f, "largest      {} parameters", self.largest_parameters)?;
        writeln!(f, "work         {:.2e} FLOP, {} models at a time", self.flops, self.workers)?;
        if let (Some(rate), Some(seconds)) = (self.flops_per_core_second, self.seconds) {
            writeln!(f, "this machine {:.1} GFLOP/s per core", rate / 1e9)?;
            writeln!(f, "time         about {:.1} minutes", seconds / 60.0)?;
        }
        writeln!(f, "memory       about {} MiB", mebibytes(self.memory))?;
        writeln!(f, "disk         about {} MiB", mebibytes(self.disk))?;
        let PlannedPower { difference, loss_spread, loss_margin } = self.power;
        writeln!(
            f,
            "power        with {} seeds, in 4 of 5 studies (level 5 %, before Holm's correction):",
            self.seeds
        )?;
        writeln!(
            f,
            "             a difference of {difference:.2} of its standard deviations over seeds is found;"
        )?;
        writeln!(
            f,
            "             equal losses are found equal within {loss_margin} nats if their difference varies by at most {loss_spread:.4} over seeds"
        )
    }
}

impl Plan {
    /// One line for each kind of model.
    fn write_kinds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = self.seconds.is_some();
        let width = self.kinds.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
        let time = if timed { "   s/run" } else { "" };
        writeln!(f, "  {:width$}  runs  parameters      active  FLOP/run{time}", "model")?;
        for kind in &self.kinds {
            write!(f, "  {:width$}  {:>4}  {:>10}", kind.name, kind.runs, kind.parameters_total)?;
            write!(f, "  {:>10}  {:>8.1e}", kind.parameters_active, kind.flops_per_run)?;
            match kind.seconds_per_run {
                Some(seconds) => writeln!(f, "  {seconds:>6.1}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preset(name: &str) -> StudyConfig {
        StudyConfig::parse(StudyConfig::preset_text(name).unwrap(), name).unwrap()
    }

    #[test]
    fn the_kinds_of_a_plan_add_up_to_its_study() {
        let config = preset("quick");
        let plan = Plan::count(&config, 512, 2).unwrap();
        assert_eq!(plan.runs, config.roster().len());
        assert_eq!(plan.kinds.iter().map(|kind| kind.runs).sum::<usize>(), plan.runs);
        let of = |name: &str| plan.kinds.iter().find(|kind| kind.name == name).unwrap();
        // Three seeds at three learning rates; the granularity that nothing is compared with has one rate.
        assert_eq!((of("moe-g4").runs, of("moe-g2").runs), (9, 3));
        assert_eq!(of("moe-g4").parameters_active, of("renormalised-g4").parameters_active);
        assert!(of("moe-g4").parameters_active < of("moe-g4").parameters_total);
        assert!(of("untrained-dense-4x").flops_per_run == 0.0 && of("dense-4x").flops_per_run > 0.0);
        assert_eq!(of("facts-moe-g1").workload, Workload::Facts);
        let sum: f64 = plan.kinds.iter().map(|kind| kind.runs as f64 * kind.flops_per_run).sum();
        assert_eq!(plan.flops, sum);
        assert!(plan.seconds.is_none() && !plan.to_string().contains("minutes"), "{plan}");
    }

    #[test]
    fn more_seeds_decide_more() {
        let mut config = preset("quick");
        config.seeds = 3;
        let few = Plan::count(&config, 512, 1).unwrap().power;
        config.seeds = 10;
        let many = Plan::count(&config, 512, 1).unwrap();
        // Ten pairs find one standard deviation in 80.3 % of studies (SciPy's noncentral t).
        assert!((many.power.difference - 0.996).abs() < 0.005, "{:?}", many.power);
        assert!(few.difference > 3.0 && few.loss_spread < many.power.loss_spread);
        assert!(many.to_string().contains("with 10 seeds, in 4 of 5 studies"), "{many}");
    }

    #[test]
    fn times_follow_from_the_rate_and_every_kind_has_its_line() {
        let plan = Plan::count(&preset("smoke"), 384, 2).unwrap();
        let flops = plan.flops;
        let plan = plan.at_rate(1e9);
        assert_eq!(plan.seconds, Some(flops / 2e9));
        let text = plan.to_string();
        for kind in &plan.kinds {
            assert_eq!(kind.seconds_per_run, Some(kind.flops_per_run / 1e9));
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(&kind.name));
            let line = line.unwrap_or_else(|| panic!("no line for {}:\n{text}", kind.name));
            assert!(line.contains(&kind.parameters_total.to_string()), "{line}");
        }
    }

    #[test]
    fn a_plan_that_is_not_wanted_any_more_is_left() {
        let error = Plan::measure(&preset("smoke"), 1, &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(error, StudyError::Stopped { .. }), "{error}");
    }

    #[test]
    fn a_given_tokenizer_decides_the_vocabulary_of_a_plan() {
        let scratch = tempfile::tempdir().unwrap();
        let mut config = crate::dataset::tests::small_study(&scratch.path().join("text"), "word");
        let learned = crate::Dataset::prepare(&config, &AtomicBool::new(false)).unwrap();
        let file = scratch.path().join("tokenizer.json");
        learned.tokenizer().save(&file).unwrap();
        (config.data.vocabulary, config.data.tokenizer) = (None, Some(file));
        let plan = Plan::measure(&config, 1, &AtomicBool::new(false)).unwrap();
        let counted = Plan::count(&config, learned.facts().vocabulary, 1).unwrap();
        assert_eq!(plan.largest_parameters, counted.largest_parameters);
        assert!(plan.seconds.is_some_and(|seconds| seconds > 0.0));
    }
}

//! `moescope train`: one model.
//!
//! The folder is a run from its first moment: it says what it is, and goes on by the same command. How a run is
//! stored and resumed is told at `moescope_train::run`; here is the progress line and the sentence at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use moescope_host::Origin;
use moescope_model::Granularity;
use moescope_train::{ModelConfig, RunOutcome, StepMetrics, TrainConfig};

use crate::context::Context;
use crate::failure::Failure;
use crate::out_folder::require_own;
use crate::say;

/// Train one model.
///
/// The output folder becomes a Hugging Face folder (config.json, model.safetensors, tokenizer.json) with run.json, the
/// manifest, and metrics.parquet. The same command goes on where it was interrupted, bit for bit.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// What to train, on what, and how.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Accepted for clarity: a run whose folder holds its own earlier state goes on in any case.
    #[arg(long)]
    resume: bool,
}

/// What a run leaves in its folder from its first save on.
const TRACES: [&str; 4] = ["run.json", "resume.state", "metrics.parquet", "checkpoints"];

/// How fast the steps of this call follow one another. The clock starts with the first step's end: reading the text and
/// filling the caches say nothing about the steps to come.
#[derive(Default)]
struct Pace {
    first: Option<(u64, Instant)>,
}

impl Pace {
    /// Mean seconds of a step so far; none after the first step.
    fn seconds_per_step(&mut self, step: u64) -> Option<f64> {
        let (first, since) = *self.first.get_or_insert_with(|| (step, Instant::now()));
        (step > first).then(|| since.elapsed().as_secs_f64() / (step - first) as f64)
    }
}

/// What the progress line says of a step, the most wanted first: a narrow terminal cuts the end.
fn state(metrics: &StepMetrics, seconds: Option<f64>) -> String {
    let per_step = metrics.tokens as f64 / metrics.step as f64;
    let rate = seconds.map_or(String::new(), |seconds| format!(", {:.0} tok/s", per_step / seconds));
    let (over, idle) = (100.0 * metrics.load_max_violation, 100.0 * metrics.dead_experts);
    let load = if over == 0.0 && idle == 0.0 {
        String::new()
    } else {
        format!(", load +{over:.0} %, {idle:.0} % idle")
    };
    format!("loss {:.3}{rate}{load}, step {}", metrics.loss, metrics.step)
}

/// The granularity of a routed model with the name of its definition, of which there are several.
fn granularity(model: &ModelConfig) -> String {
    let routed = model.feed_forward.routed();
    routed.map_or_else(String::new, |routed| format!(", granularity {}", Granularity::of(routed)))
}

/// Runs the command.
///
/// # Errors
/// If the configuration or the text is wrong, a file cannot be written, or training is interrupted.
pub fn run(args: &TrainArgs, context: &Context) -> Result<(), Failure> {
    let config = TrainConfig::read(&args.config)?;
    require_own(&args.out, "a run", &TRACES)?;
    let pool = context.pool()?;
    let progress = context.progress();
    let steps = config.training.steps;
    let mut pace = Pace::default();
    let mut watch = |metrics: &StepMetrics| {
        let seconds = pace.seconds_per_step(metrics.step);
        let left = seconds.map(|seconds| Duration::from_secs_f64(seconds * (steps - metrics.step) as f64));
        progress.advance(metrics.step as f64 / steps as f64, left, &state(metrics, seconds));
    };
    let stop = context.interrupt().flag();
    let origin = Origin::here(env!("CARGO_PKG_VERSION"), moescope_study::COMMIT);
    let outcome = pool.install(|| moescope_train::run(&config, &args.out, origin, &mut watch, stop))?;
    progress.clear();
    match outcome {
        RunOutcome::Done(manifest) if context.json() => context.print_json(&*manifest),
        RunOutcome::Done(manifest) => say!(
            "{}: validation loss {:.4} nats per token ({} predictions), {} parameters, {} active{}",
            args.out.display(),
            manifest.losses.validation,
            manifest.losses.validation_predictions,
            manifest.counts.parameters_total,
            manifest.counts.parameters_active,
            granularity(&config.model)
        ),
        RunOutcome::Interrupted { step } => {
            let message =
                format!("interrupted after step {step} of {steps}; the same command goes on from there");
            return Err(Failure::interrupted(message, context.interrupt().exit()));
        }
    }
    Ok(())
}

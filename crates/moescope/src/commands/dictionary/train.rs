//! `moescope dictionary train`: a dictionary learned while activations stream.
//!
//! Nothing is written before the training is done: the table of its course first, then the weights, and `cfg.json` last, so that a
//! folder that has it is whole. There is nothing to go on from after an interruption.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use moescope_analysis::wording::counted;
use moescope_base::{Column, Seed, Table};
use moescope_dictionary::{Dictionary, Kind, Place, Settings, StepReport, Trained, train};
use moescope_model::{ModelSubject, Work};

use super::sites::{SiteArgs, Sites};
use super::stream::ModelRows;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::fingerprint;
use crate::memory::{Intent, MemoryArgs};
use crate::out_folder::require_own;
use crate::say;
use crate::text_windows::{Windows, corpus_of, positions};

/// Sequences in one forward pass where all weights are in memory. Results do not depend on it.
const BATCH: usize = 16;
/// Rows of the table of a training, about.
const HISTORY: u64 = 200;

/// Learn a sparse dictionary of a site while activations stream: none are kept on disk.
///
/// Text that holds fewer tokens than --tokens is gone through again. The folder is one of SAELens, with tables/training.parquet besides.
/// A training that is interrupted leaves nothing behind; the same command begins anew.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision].
    model: String,
    /// Text: files, which are documents or hold them (.txt, .jsonl, .parquet, also .gz and .zst), or folders of them.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    text: Vec<PathBuf>,
    #[command(flatten)]
    sites: SiteArgs,
    /// How features are kept sparse: relu (a penalty on their sum), topk, batchtopk or jumprelu.
    #[arg(long, value_name = "KIND", default_value = "batchtopk", value_parser = spelled)]
    kind: Kind,
    /// Number of features.
    #[arg(long, value_name = "N")]
    size: usize,
    /// Active features of a token that all kinds but relu aim at.
    #[arg(long, value_name = "K", default_value_t = 32)]
    k: usize,
    /// Weight of the penalty of relu (0.2 without it) and jumprelu (1 without it).
    #[arg(long, value_name = "WEIGHT")]
    penalty: Option<f64>,
    /// Rows to learn from: tokens that pass through the site, repeats included.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    tokens: u64,
    /// Rows of a step.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    batch: usize,
    /// Largest learning rate; without it, one that falls with the root of --size.
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f32>,
    /// Tokens in a window of the text; the model's limit if that is lower.
    #[arg(long, value_name = "N", default_value_t = 128)]
    positions: usize,
    /// Seed of everything that is drawn.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// A kind on the command line; the message of a wrong one lists all.
fn spelled(name: &str) -> Result<Kind, String> {
    name.parse().map_err(|error: moescope_dictionary::DictionaryError| error.to_string())
}

impl TrainArgs {
    /// What the options decide, with the usual choices for what they leave open.
    ///
    /// # Errors
    /// For a setting that no training can have, by name.
    fn settings(&self) -> Result<Settings, Failure> {
        let usual = Settings::new(self.kind, self.size, self.k, self.tokens, Seed(self.seed));
        let batch = self.batch.min(self.tokens.try_into().unwrap_or(usize::MAX));
        let settings = Settings {
            batch,
            penalty: self.penalty.unwrap_or(usual.penalty),
            learning_rate: self.learning_rate.unwrap_or(usual.learning_rate),
            dead_after: (self.tokens / 10).max(10 * batch as u64),
            ..usual
        };
        settings.check()?;
        Ok(settings)
    }
}

/// Runs the command.
///
/// # Errors
/// If model, text, site or settings are wrong, the folder holds something else, or the work is interrupted.
pub(super) fn run(args: &TrainArgs, context: &Context) -> Result<(), Failure> {
    let settings = args.settings()?;
    if args.positions < 2 {
        return Err(Failure::input("--positions must be 2 or more"));
    }
    let Some(read) = args.sites.read()? else {
        return Err(Failure::input("name what the dictionary is of: --site HOOK or --expert L:E"));
    };
    require_own(&args.out, "a dictionary", &[moescope_dictionary::CONFIGURATION_FILE])?;
    let checkpoint = Checkpoint::find_for(&args.model, args.memory.dry_run(), context)?;
    let description = moescope_model::describe(checkpoint.path())?;
    let sites =
        Sites::find(&description.subject_shape(), &read, args.sites.target.as_deref(), args.sites.skip)?;
    Dictionary::require_name(sites.target.is_some(), settings.kind == Kind::TopK)?;
    let positions = positions(args.positions, description.max_positions, context);
    args.sites.require_rows(positions)?;
    let limit = usize::try_from(args.tokens).unwrap_or(usize::MAX).max(2 * positions);
    let corpus = corpus_of(&args.text)?;
    let text = Windows::of(&corpus, &checkpoint.tokenizer()?, positions, Some(limit), context.interrupt())?;
    let (record, widths) = (sites.points(), sites.widths(&description, positions));
    let work = |batch: usize| Work {
        batch,
        positions,
        record: &record,
        edits: &[],
        gradients: false,
        kept: kept(&settings, widths),
        threads: context.threads(),
    };
    let sequences = args.memory.sequences(checkpoint.path(), text.windows.len(), BATCH, work)?;
    if args.memory.dry_run() {
        return tell_plan(args, &settings, widths, &checkpoint, work(sequences), context);
    }
    let model = args.memory.open(checkpoint.path(), &work(sequences), context)?;
    let mut subject = ModelSubject::new(model).stopped_by(context.interrupt().shared_flag());
    let mut stream =
        ModelRows::new(&mut subject, &sites, &text.windows, sequences, Seed(args.seed).child("text"));
    let place = Place {
        model: args.model.clone(),
        hook: sites.input.to_string(),
        target_hook: sites.target.map(|target| target.to_string()),
    };
    let (trained, history) = learned(&mut stream, &settings, place, context)?;
    let rounds = stream.rounds;
    let about = about(args, &settings, &trained, &checkpoint, (text.tokens(), rounds))?;
    write(&args.out, &trained, &history, &about)?;
    tell(args, &trained, &about, rounds, context);
    Ok(())
}

/// The training, with its progress, and the reports that are kept of it: the first step, the last, and about two hundred between.
///
/// # Errors
/// As the training, and when the user wishes to stop, which is heard at the next step or pass.
fn learned(
    stream: &mut ModelRows<'_>,
    settings: &Settings,
    place: Place,
    context: &Context,
) -> Result<(Trained, Vec<StepReport>), Failure> {
    let (pool, progress) = (context.pool()?, context.progress());
    let started = Instant::now();
    let mut history = Vec::new();
    let every = settings.steps().div_ceil(HISTORY);
    let stop = context.interrupt().flag();
    let mut watch = |report: &StepReport| {
        let (done, all) = (report.step, report.steps);
        if done % every == 0 || done == all || done == 1 {
            history.push(*report);
        }
        let left: Duration = started.elapsed().mul_f64((all - done) as f64 / done as f64);
        let told = format!(
            "step {done} of {all}: {:.3} unexplained, {:.1} active, {} dead",
            report.unexplained, report.active, report.dead
        );
        progress.advance(done as f64 / all as f64, Some(left), &told);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trained = pool.install(|| train(stream, settings, place, &mut watch));
    progress.clear();
    let trained = trained.map_err(|error| context.interrupt().or(Failure::from(error)))?;
    Ok((trained, history))
}

/// Bytes that a training keeps beside the model: weights with gradient and moments, rows that are mixed, and the values of a step.
fn kept(settings: &Settings, (input, target): (usize, usize)) -> u64 {
    let (features, batch) = (settings.features as u64, settings.batch as u64);
    let width = (input + target) as u64;
    4 * (5 * features * width + 2 * settings.mixed as u64 * batch * width + 8 * batch * features)
}

/// What the work takes of memory, disk and time. The time of the model's passes is told by its plan, that of learning in a note.
fn tell_plan(
    args: &TrainArgs,
    settings: &Settings,
    (input, target): (usize, usize),
    checkpoint: &Checkpoint,
    work: Work<'_>,
    context: &Context,
) -> Result<(), Failure> {
    let pass = (work.batch * work.positions) as u64;
    let rate =
        moescope_engine::measure::gemm_rate(512, 1024, 1024, 8).median * 1e9 * context.threads() as f64;
    let rows = (settings.steps() * settings.batch as u64) as f64;
    // Kinds that keep a number of features multiply once, and then look through all features, which takes about as long as so many operations on each.
    let per_feature = match settings.kind {
        Kind::TopK | Kind::BatchTopK => 2 * input + 500,
        Kind::Relu | Kind::JumpRelu => 6 * (input + target),
    };
    let seconds = rows * (settings.features * per_feature) as f64 / (0.5 * rate);
    let told = super::super::study::in_words(Duration::from_secs_f64(seconds.min(1e9)));
    context.progress().note(&format!("learning itself takes about {told} beside the passes of the model"));
    let disk = 4 * (settings.features * (input + target)) as u64;
    let passes = usize::try_from(settings.rows.div_ceil(pass)).unwrap_or(usize::MAX);
    args.memory.tell(checkpoint.path(), &Intent { work, passes, disk }, context)
}

/// How the dictionary was made: everything that decides its numbers, but for the text, of which it says how much there was.
fn about(
    args: &TrainArgs,
    settings: &Settings,
    trained: &Trained,
    checkpoint: &Checkpoint,
    (tokens, rounds): (usize, u64),
) -> Result<serde_json::Value, Failure> {
    Ok(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "settings": settings,
        "model_fingerprint": fingerprint::of_model(checkpoint)?,
        "positions": args.positions,
        "skip": args.sites.skip,
        "text_tokens": tokens,
        "rounds": rounds,
        "resampled": trained.resampled,
        "last_step": trained.last,
    }))
}

/// Writes the table, then the dictionary, whose `cfg.json` comes last.
fn write(
    out: &Path,
    trained: &Trained,
    history: &[StepReport],
    about: &serde_json::Value,
) -> Result<(), Failure> {
    let folder = out.join("tables");
    moescope_host::make_folder(&folder)?;
    moescope_report::write_parquet(&table(history)?, &folder.join("training.parquet"))?;
    trained.dictionary.save(out, about)?;
    Ok(())
}

/// The reports of the training as a table, one row for each report that was kept.
///
/// - **Unit:** shares of the variance, features, rows; the columns say which.
/// - **Does not show:** what the dictionary does on other text; that is what measuring is for.
fn table(history: &[StepReport]) -> Result<Table, Failure> {
    let whole = |pick: fn(&StepReport) -> u64| history.iter().map(|report| pick(report) as i64).collect();
    let real = |pick: fn(&StepReport) -> f64| history.iter().map(pick).collect();
    let columns = vec![
        Column::integer_key("step", "steps", "step, counted from 1", whole(|r| r.step)),
        Column::count("rows", "rows", "rows seen, repeats included", whole(|r| r.rows)),
        Column::estimate(
            "unexplained",
            "share",
            "share of the variance not explained",
            real(|r| r.unexplained),
        ),
        Column::estimate("active", "features", "active features of a row", real(|r| r.active)),
        Column::count(
            "dead",
            "features",
            "features that were active in no row for long",
            whole(|r| r.dead as u64),
        ),
    ];
    Ok(Table::new(
        "training",
        "How the dictionary learned",
        "Each step on its own rows, before it learned from them.",
        columns,
    )?)
}

/// Says what came of it.
fn tell(args: &TrainArgs, trained: &Trained, about: &serde_json::Value, rounds: u64, context: &Context) {
    let last = &trained.last;
    if context.json() {
        return context.print_json(&serde_json::json!({ "folder": args.out, "about": about }));
    }
    say!(
        "{}: {} features of {}, {} rows in {} of the text",
        args.out.display(),
        args.size,
        trained.dictionary.place().target_hook.as_ref().unwrap_or(&trained.dictionary.place().hook),
        last.rows,
        counted(rounds, "round", "rounds")
    );
    say!(
        "last step: {:.4} of the variance not explained, {:.2} features active, {} dead, {} set anew",
        last.unexplained,
        last.active,
        last.dead,
        trained.resampled
    );
    say!(
        "measure it on other text: moescope dictionary measure {} {} --text …",
        args.model,
        args.out.display()
    );
}

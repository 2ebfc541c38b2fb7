//! `moescope routing`: where the tokens of a corpus go, and what that tells.
//!
//! The routes are recorded once and analysed afterwards from memory: all analyses are of the same pass over the same
//! tokens. The recorded files hold enough to repeat them elsewhere. While they are recorded they are kept piece by piece, so that the
//! work can stop and go on.

use std::path::{Path, PathBuf};

use clap::Args;
use moescope_analysis::route_report::{Chapter, chapters};
use moescope_analysis::wording::counted;
use moescope_base::{FeedForwardShape, Seed, SubjectShape, Table};
use moescope_corpus::Corpus;
use moescope_host::HostError;
use moescope_model::{ModelSubject, Work};
use moescope_report::{Report, Section};
use moescope_trace::{
    PieceFolder, RoutingOutcome, RoutingTrace, record_routing_in_pieces, routing_points, write_trace,
};

use super::count_routes::{self, CountingArgs, Job, named_hash};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::fingerprint;
use crate::memory::{Intent, MemoryArgs, usual_sequences};
use crate::near_ties;
use crate::out_folder::{finish, require_own, write_tables};
use crate::say;
use crate::shell::word;
use crate::text_windows::{Batch, Windows, positions, texts};

/// Record where the tokens of a corpus go, and analyse it.
///
/// Every sub-folder of the text folder is one domain. Writes the routes (tokens.parquet, routing.parquet), one table for
/// each analysis, and report.html. After Ctrl-C or SIGTERM the routes that are recorded are kept, and --resume goes on; the files are
/// then the same, to the byte, as without an interruption.
#[derive(Debug, Args)]
pub struct RoutingArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision], with routed layers.
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    model: Option<String>,
    /// Folder with one sub-folder of text for each domain; or any folder or file of text (.txt, .jsonl, .parquet, also .gz and .zst),
    /// which is then one domain.
    #[arg(long, value_name = "DIR", required_unless_present = "from", conflicts_with = "from")]
    text: Option<PathBuf>,
    /// In place of a model and text: folders that this command wrote, of one model each with other text. They are counted in one pass and in
    /// bounded memory; sums that add up are written beside the tables, and may be given here again. Nothing is read, drawn or shuffled then.
    #[arg(long, value_name = "DIR", num_args = 1..,
        conflicts_with_all = ["positions", "tokens", "permutations", "seed", "max_memory"])]
    from: Vec<PathBuf>,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens in a window; the model's limit if that is lower.
    #[arg(long, value_name = "N", default_value_t = 128)]
    positions: usize,
    /// Tokens of each domain, at most.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    tokens: usize,
    /// Shuffles behind each permutation null.
    #[arg(long, value_name = "N", default_value_t = 99)]
    permutations: usize,
    /// Seed of the shuffles.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Go on where an earlier call with the same model, text and windows was interrupted.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    counting: CountingArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

impl RoutingArgs {
    /// The model; clap has seen to it that there is one where routes are not taken `--from` folders.
    fn model(&self) -> &str {
        self.model.as_deref().unwrap_or_default()
    }

    fn text(&self) -> &Path {
        self.text.as_deref().unwrap_or_else(|| Path::new(""))
    }
}

/// Runs the command.
///
/// # Errors
/// If model or text are wrong, the model has no routed layer, or a file cannot be written.
pub fn run(args: &RoutingArgs, context: &Context) -> Result<(), Failure> {
    if !args.from.is_empty() {
        let (resume, dry_run) = (args.resume, args.memory.dry_run());
        let job = Job { from: &args.from, out: &args.out, resume, dry_run, sizes: args.counting };
        return count_routes::run(&job, context);
    }
    if args.positions < 2 || args.permutations == 0 {
        return Err(Failure::input("--positions must be 2 or more, --permutations 1 or more"));
    }
    require_own(&args.out, "a record of routes", &["routing.parquet", "pieces"])?;
    let checkpoint = Checkpoint::find_for(args.model(), args.memory.dry_run(), context)?;
    let description = moescope_model::describe(checkpoint.path())?;
    let shape = description.subject_shape();
    if shape.routed_layers().is_empty() {
        let place = args.model();
        return Err(Failure::input(format!(
            "{place} is dense: it has no routed layer, so there are no routes to record"
        )));
    }
    let tokenizer = checkpoint.tokenizer()?;
    let positions = positions(args.positions, description.max_positions, context);
    let corpus = Corpus::from_path(args.text())?;
    let text = Windows::of(&corpus, &tokenizer, positions, Some(args.tokens), context.interrupt())?;
    text.tell_short(context);
    text.tell_few(context);
    let record = routing_points(&shape);
    let kept = kept(&shape, text.tokens());
    let threads = context.threads();
    let work = |batch: usize| Work {
        batch,
        positions,
        record: &record,
        edits: &[],
        gradients: false,
        kept,
        threads,
    };
    let usual = usual_sequences(positions);
    let sequences = args.memory.sequences(checkpoint.path(), text.windows.len(), usual, work)?;
    if args.memory.dry_run() {
        let passes = text.windows.len().div_ceil(sequences);
        let intent = Intent { work: work(sequences), passes, disk: kept };
        return args.memory.tell(checkpoint.path(), &intent, context);
    }
    let hash = fingerprint::of_model(&checkpoint)?;
    let job = job(&hash, &text, positions);
    let pieces = PieceFolder { folder: &args.out, job: &job, resume: args.resume };
    pieces.check()?;
    let model = args.memory.open(checkpoint.path(), &work(sequences), context)?;
    let subject = ModelSubject::new(model).stopped_by(context.interrupt().shared_flag());
    let trace = recorded(subject, text.batches(sequences, &tokenizer)?, &pieces, context)
        .map_err(|failure| kept_for_resume(failure, args))?;
    context.progress().note("analysing");
    let analysed = {
        let message = "interrupted while the routes were analysed; they are kept: go on with --resume";
        let _heeds = context.interrupt().at_once(message.into());
        let texts = texts(&tokenizer);
        context.pool()?.install(|| chapters(&trace, Seed(args.seed), args.permutations, &texts))?
    };
    write(args, &hash, &trace, &analysed).map_err(|failure| kept_for_resume(failure, args))?;
    pieces.remove()?;
    tell(args, &trace, &analysed, context);
    Ok(())
}

/// The failure, with the way to go on where routes are kept.
fn kept_for_resume(mut failure: Failure, args: &RoutingArgs) -> Failure {
    let pieces = args.out.join("pieces");
    if pieces.exists() && !failure.message.contains("go on with --resume") {
        failure.message +=
            &format!("\n  the routes recorded so far are kept in {}; go on with --resume", pieces.display());
    }
    failure
}

/// What tells this record from another: the model, the text as windows, and the version.
fn job(model: &str, text: &Windows, positions: usize) -> String {
    let ids: Vec<u32> = text.windows.iter().flat_map(|window| &window.ids).copied().collect();
    format!("{model} {} {positions} {}", moescope_trace::token_hash(&ids), env!("CARGO_PKG_VERSION"))
}

/// The routes of all batches, those of earlier calls included.
fn recorded(
    mut subject: ModelSubject,
    batches: Vec<Batch>,
    pieces: &PieceFolder<'_>,
    context: &Context,
) -> Result<RoutingTrace, Failure> {
    let progress = context.progress();
    progress.note("recording routes");
    let all: usize = batches.iter().map(|(tokens, _)| tokens.len()).sum();
    let stop = context.interrupt().flag();
    let outcome = context
        .pool()?
        .install(|| record_routing_in_pieces(&mut subject, watched(batches, &progress), pieces, stop))?;
    progress.clear();
    match outcome {
        RoutingOutcome::Done(trace) => Ok(*trace),
        RoutingOutcome::Interrupted { tokens } => {
            let message = format!("interrupted after {tokens} of {all} tokens; go on with --resume");
            Err(Failure::interrupted(message, context.interrupt().exit()))
        }
    }
}

/// Says what was found where.
fn tell(args: &RoutingArgs, trace: &RoutingTrace, chapters: &[Chapter], context: &Context) {
    let ties = near_ties::of_trace(trace);
    if context.json() {
        context.print_json(&serde_json::json!({
            "tokens": trace.tokens().len(),
            "layers": trace.layers().len(),
            "tables": tables(chapters).map(Table::name).collect::<Vec<_>>(),
            "findings": findings(chapters).collect::<Vec<_>>(),
            "near_ties": near_ties::json(&ties),
            "report": args.out.join("report.html"),
        }));
        return;
    }
    say!(
        "{} tokens, {}: {}",
        trace.tokens().len(),
        counted(trace.layers().len(), "routed layer", "routed layers"),
        args.out.join("report.html").display()
    );
    findings(chapters).for_each(|finding| say!("  {finding}"));
    near_ties::tell(&ties);
}

/// All tables.
pub(super) fn tables(chapters: &[Chapter]) -> impl Iterator<Item = &Table> {
    chapters.iter().flat_map(|chapter| &chapter.finding.tables)
}

/// What each chapter found, in a sentence.
pub(super) fn findings(chapters: &[Chapter]) -> impl Iterator<Item = &str> {
    chapters.iter().filter_map(|chapter| Some(chapter.finding.figures.first()?.title.as_str()))
}

/// Bytes of a record of routes of so many tokens, an upper estimate: what is known of each, and of each in every routed layer the
/// choices, their weights, entropy and margin.
pub(super) fn kept(shape: &SubjectShape, tokens: usize) -> u64 {
    let layer = |shape: &FeedForwardShape| match shape {
        FeedForwardShape::Routed { per_token, .. } => 8 * (per_token + 1),
        FeedForwardShape::Dense { .. } => 0,
    };
    let layers: usize = shape.feed_forward.iter().map(layer).sum();
    2 * tokens as u64 * (64 + layers) as u64
}

/// The batches, telling the progress as each is taken; the time left is at the rate so far.
fn watched(batches: Vec<Batch>, progress: &crate::progress::ProgressLine) -> impl Iterator<Item = Batch> {
    let all = batches.len();
    let started = std::time::Instant::now();
    batches.into_iter().enumerate().map(move |(done, batch)| {
        let left = (done > 0).then(|| started.elapsed().mul_f64((all - done) as f64 / done as f64));
        progress.advance(done as f64 / all as f64, left, &format!("batch {} of {all}", done + 1));
        batch
    })
}

/// Writes the record, the tables and the report; the report comes last, so that a folder with a report is whole. `model` is the hash that
/// stores are held against when they are counted together.
fn write(args: &RoutingArgs, model: &str, trace: &RoutingTrace, chapters: &[Chapter]) -> Result<(), Failure> {
    finish(&args.out, "report.html", || {
        // Routes of another call that are half written over are no record.
        let manifest = args.out.join("manifest.json");
        if manifest.exists() {
            std::fs::remove_file(&manifest).map_err(|error| HostError::file("remove", &manifest, error))?;
        }
        let model = named_hash(&name(Path::new(args.model())), model);
        write_trace(&args.out, trace, None, &model, env!("CARGO_PKG_VERSION"))?;
        write_tables(&args.out, tables(chapters))?;
        Ok(moescope_report::write_html(&report(args, trace, chapters), &args.out.join("report.html"))?)
    })
}

/// How the tables of a chapter were made; what several of them say stands once.
fn methods(chapter: &Chapter) -> Vec<String> {
    let mut methods: Vec<String> = Vec::new();
    for table in &chapter.finding.tables {
        if methods.iter().all(|known| known != table.method()) {
            methods.push(table.method().to_owned());
        }
    }
    methods
}

/// The section of a chapter, with the methods that its tables state.
pub(super) fn section(chapter: &Chapter) -> Section {
    Section {
        id: chapter.id.to_owned(),
        heading: chapter.heading.to_owned(),
        question: None,
        prose: Vec::new(),
        figures: chapter.finding.figures.clone(),
        tables: chapter.finding.tables.clone(),
        method: methods(chapter),
        limits: Some(chapter.limits.to_owned()).into_iter().filter(|limits| !limits.is_empty()).collect(),
    }
}

/// The report: a section for each chapter, with the methods that its tables state. It has no answers, since one model answers none of the
/// five questions.
fn report(args: &RoutingArgs, trace: &RoutingTrace, chapters: &[Chapter]) -> Report {
    let domains = format!("Domains: {}.", trace.tokens().domain_names.join(", "));
    Report {
        title: format!("Routes of {}", name(Path::new(args.model()))),
        subtitle: format!(
            "{} tokens through {}",
            trace.tokens().len(),
            counted(trace.layers().len(), "routed layer", "routed layers")
        ),
        lead: findings(chapters).map(|finding| format!("{finding}.")).chain([domains]).collect(),
        answers: None,
        sections: chapters.iter().map(section).collect(),
        reproduce: reproduce(args),
        notes: vec!["Documents, not tokens, are the independent units behind intervals and nulls.".into()],
    }
}

/// Name of the model for a heading: the last part of its path.
fn name(model: &Path) -> String {
    model.file_name().map_or_else(|| model.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The command with every option that decides a number, the defaults included.
fn reproduce(args: &RoutingArgs) -> Vec<(String, String)> {
    let command = format!(
        "moescope routing {} --text {} --out {} --positions {} --tokens {} --permutations {} --seed {}",
        word(args.model()),
        word(args.text().display()),
        word(args.out.display()),
        args.positions,
        args.tokens,
        args.permutations,
        args.seed
    );
    vec![("Command".into(), command), ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION")))]
}

//! `moescope record --corpus`: activations of a corpus, whole or a sample of them.
//!
//! The files, the draw and the way in which work is taken up are those of `moescope_trace::record_activations`; here text becomes
//! windows, memory and disk are planned, and the progress is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use moescope_analysis::routing::LayerNearTies;
use moescope_analysis::wording::counted;
use moescope_base::HookPoint;
use moescope_corpus::Corpus;
use moescope_model::{Description, ModelSubject, Work};
use moescope_trace::{
    ActivationFolder, ActivationJob, ActivationManifest, Kept, RecordOutcome, record_activations,
};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::fingerprint;
use crate::memory::{Intent, MemoryArgs};
use crate::near_ties;
use crate::out_folder::require_own;
use crate::progress::ProgressLine;
use crate::say;
use crate::text_windows::{Windows, positions};

/// Sequences in one forward pass where all weights are in memory. Results do not depend on it.
const BATCH: usize = 16;
/// Bytes that a part of the recording is cut to. They do not depend on the memory of the machine, so that the files do not.
const PART: u64 = 128 << 20;

/// Options of a recording over a corpus.
#[derive(Debug, Args)]
pub struct CorpusArgs {
    /// Record over all text at a path: a file .txt, .jsonl or .parquet, packed or not, or a folder of them; sub-folders are domains.
    ///
    /// --out is then a folder: parts of safetensors under full hook names, with the document and position of every row, and
    /// manifest.json, which is written last. docs/activations.md says what is in it and how to read it.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["ids", "text", "edit", "grad", "compat"])]
    corpus: Option<PathBuf>,
    /// Keep so many rows of each site, drawn evenly from all tokens; of a single expert from its own. Without it, all rows.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Seed of the draw.
    #[arg(long, value_name = "SEED", default_value_t = 1, requires = "sample")]
    seed: u64,
    /// Tokens in a window of the corpus; the model's limit if that is lower.
    #[arg(long, value_name = "N", default_value_t = 128)]
    positions: usize,
    /// Tokens of each domain of the corpus, at most; all without it.
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Go on where an earlier call with the same options was interrupted.
    #[arg(long)]
    resume: bool,
}

impl CorpusArgs {
    /// Whether a corpus is named.
    pub fn is_named(&self) -> bool {
        self.corpus.is_some()
    }

    /// Whether a corpus is to be recorded.
    ///
    /// # Errors
    /// If there is none, and an option that says something about it.
    pub fn is_given(&self) -> Result<bool, Failure> {
        let about_it = self.sample.is_some() || self.tokens.is_some() || self.resume;
        match self.corpus.is_none() && about_it {
            true => Err(Failure::input(
                "--sample, --tokens and --resume are about a corpus; name it with --corpus PATH",
            )),
            false => Ok(self.corpus.is_some()),
        }
    }
}

/// What the other options of `record` say.
pub struct Call<'c> {
    /// The model as it was named.
    pub model: &'c str,
    /// Sites, sorted.
    pub points: Vec<HookPoint>,
    /// Folder to write.
    pub out: &'c Path,
    /// Memory that may be taken.
    pub memory: &'c MemoryArgs,
}

/// Runs the command.
///
/// # Errors
/// If text, model or folder are wrong, something cannot be written, or the work is interrupted.
pub fn run(
    args: &CorpusArgs,
    call: &Call<'_>,
    checkpoint: &Checkpoint,
    description: &Description,
    context: &Context,
) -> Result<(), Failure> {
    if args.positions < 2 || args.sample == Some(0) || args.tokens == Some(0) {
        return Err(Failure::input("--positions must be 2 or more, --sample and --tokens 1 or more"));
    }
    require_own(call.out, "a recording of activations", &["recording.json"])?;
    let job = job(args, call, checkpoint, description, context)?;
    let estimate = Estimate::of(&job, description)?;
    let (positions, threads, record) = (job.windows[0].ids.len(), context.threads(), job.recorded_points());
    let work = |batch: usize| Work {
        batch,
        positions,
        record: &record,
        edits: &[],
        gradients: false,
        kept: estimate.kept,
        threads,
    };
    let sequences = call.memory.sequences(checkpoint.path(), estimate.windows, BATCH, work)?;
    if call.memory.dry_run() {
        let passes = estimate.windows.div_ceil(sequences);
        let intent = Intent { work: work(sequences), passes, disk: estimate.disk };
        return call.memory.tell(checkpoint.path(), &intent, context);
    }
    let model = call.memory.open(checkpoint.path(), &work(sequences), context)?;
    let mut subject = ModelSubject::new(model).stopped_by(context.interrupt().shared_flag());
    let progress = context.progress();
    let mut watch = watching(&progress);
    let stop = context.interrupt().flag();
    let outcome = context.pool()?.install(|| {
        record_activations(&mut subject, &job, sequences, call.out, args.resume, &mut watch, stop)
    })?;
    progress.clear();
    match outcome {
        RecordOutcome::Done(manifest) => tell(&manifest, &ties_of(call.out)?, call.out, context),
        RecordOutcome::Interrupted { windows, of } => {
            let message = format!("interrupted after {windows} of {of} windows; go on with --resume");
            return Err(Failure::interrupted(message, context.interrupt().exit()));
        }
    }
    Ok(())
}

/// Moves the progress line; the time left is at the rate of this call.
fn watching(progress: &ProgressLine) -> impl FnMut(usize, usize) + '_ {
    let mut begun: Option<(usize, Instant)> = None;
    move |done, of| {
        let (first, since) = *begun.get_or_insert_with(|| (done, Instant::now()));
        let left =
            (done > first).then(|| since.elapsed().mul_f64((of - done) as f64 / (done - first) as f64));
        progress.advance(done as f64 / of.max(1) as f64, left, &format!("window {done} of {of}"));
    }
}

/// Text, windows and options as a job.
fn job(
    args: &CorpusArgs,
    call: &Call<'_>,
    checkpoint: &Checkpoint,
    description: &Description,
    context: &Context,
) -> Result<ActivationJob, Failure> {
    let path = args.corpus.as_deref().unwrap_or(Path::new("."));
    let corpus = Corpus::from_path(path)?;
    let positions = positions(args.positions, description.max_positions, context);
    let text = Windows::of(&corpus, &checkpoint.tokenizer()?, positions, args.tokens, context.interrupt())?;
    let kept = args.sample.map_or(Kept::Whole, |rows| Kept::Sample { rows, seed: args.seed });
    let mut job = ActivationJob {
        points: call.points.clone(),
        kept,
        windows: text.windows,
        documents: text.documents,
        domain_names: corpus.domain_names(),
        tokens_left_out: text.left_out,
        part_windows: 1,
        model: (call.model.to_owned(), fingerprint::of_model(checkpoint)?),
        code_version: env!("CARGO_PKG_VERSION").into(),
    };
    job.part_windows = Estimate::part_windows(&job, description)?;
    Ok(job)
}

/// What a job takes, known before its first pass.
#[derive(Debug)]
struct Estimate {
    /// Windows that go through the model.
    windows: usize,
    /// Bytes that are kept in memory from pass to pass: ids, a part, the rows of single experts and a copy while they are saved.
    kept: u64,
    /// Bytes of the finished folder. Exact but for names, headers, and single experts, of which it is an upper bound.
    disk: u64,
}

impl Estimate {
    fn of(job: &ActivationJob, description: &Description) -> Result<Estimate, Failure> {
        let windows = job.windows_run()?;
        let positions = job.windows[0].ids.len();
        let tokens = (job.windows.len() * positions) as u64;
        let (parts, experts) = bytes(job, description, windows);
        let part = parts.div_ceil(windows as u64) * job.part_windows as u64;
        // Ids in the windows and on their way through the hash, a lot for each drawn token.
        let lots = match job.kept {
            Kept::Whole => 0,
            Kept::Sample { rows, .. } => 64 * tokens.min(rows as u64),
        };
        Ok(Estimate { windows, kept: 8 * tokens + lots + part + 2 * experts, disk: parts + experts })
    }

    /// Windows of a part: as many as its size takes. They follow from the job and the model alone.
    fn part_windows(job: &ActivationJob, description: &Description) -> Result<usize, Failure> {
        let windows = job.windows_run()?;
        let (parts, _) = bytes(job, description, windows);
        let each = (parts / windows.max(1) as u64).max(1);
        Ok(usize::try_from(PART / each).unwrap_or(usize::MAX).clamp(1, windows.max(1)))
    }
}

/// Bytes of all parts, and of the sampled rows of single experts.
fn bytes(job: &ActivationJob, description: &Description, windows: usize) -> (u64, u64) {
    let positions = job.windows[0].ids.len();
    let Kept::Sample { rows, .. } = job.kept else {
        // Beside the values stand ids, losses and the place of each window, and the tokens of experts' rows.
        let tokens = (windows * positions) as u64;
        let margins = 8 * routers(job) * tokens;
        let ragged = job.points.iter().filter(|point| point.site().in_expert()).count() as u64;
        let beside = 12 * tokens
            + margins
            + 16 * windows as u64
            + 8 * ragged_rows(job, description, tokens).min(ragged * tokens);
        return (description.recorded_bytes(&job.points, tokens, positions) + beside, 0);
    };
    let tokens = (job.windows.len() * positions) as u64;
    let kept = tokens.min(rows as u64);
    let (experts, others): (Vec<HookPoint>, Vec<HookPoint>) =
        job.points.iter().copied().partition(|point| point.site().in_expert());
    let row = |point: &HookPoint| description.recorded_row(*point, positions) + 24;
    let each: u64 = experts.iter().map(|point| kept * row(point)).sum();
    let chosen =
        description.recorded_bytes(&experts, tokens, positions) + 24 * ragged_rows(job, description, tokens);
    let parts = match others.is_empty() {
        true => 0,
        false => description.recorded_bytes(&others, kept, positions) + (24 + 8 * routers(job)) * kept,
    };
    (parts, each.min(chosen))
}

/// Layers whose margins are kept.
fn routers(job: &ActivationJob) -> u64 {
    let layers: BTreeSet<_> =
        job.points.iter().filter(|point| point.site().in_router()).map(HookPoint::layer).collect();
    layers.len() as u64
}

/// The near-ties of the layers of whose router something was recorded, from the finished folder: of an interrupted recording the parts
/// of earlier calls belong to it, too.
fn ties_of(folder: &Path) -> Result<Vec<LayerNearTies>, Failure> {
    let recorded = ActivationFolder::open(folder)?;
    let margins = |layer: usize| Ok(LayerNearTies::of(layer, &recorded.relative_margins(layer)?));
    recorded.router_layers().into_iter().map(margins).collect()
}

/// Rows of all recorded single experts together, at most.
fn ragged_rows(job: &ActivationJob, description: &Description, tokens: u64) -> u64 {
    let mut sites = std::collections::BTreeMap::<_, u64>::new();
    for point in job.points.iter().filter(|point| point.site().in_expert()) {
        *sites.entry((point.layer(), point.site())).or_default() += 1;
    }
    let chosen = |layer: Option<usize>| {
        let routed = layer.and_then(|layer| description.feed_forward[layer].routed());
        routed.map_or(0, |routed| routed.per_token as u64)
    };
    sites.into_iter().map(|((layer, _), points)| points.min(chosen(layer)) * tokens).sum()
}

/// Says what the folder holds.
fn tell(manifest: &ActivationManifest, ties: &[LayerNearTies], out: &Path, context: &Context) {
    if context.json() {
        context.print_json(&serde_json::json!({
            "folder": out,
            "manifest": manifest,
            "near_ties": near_ties::json(ties),
        }));
        return;
    }
    let tokens = manifest.windows * manifest.positions;
    let rows = match manifest.kept {
        Kept::Whole => "all rows".to_owned(),
        Kept::Sample { rows, .. } if rows >= tokens => {
            format!("all rows, since there are no more than the {rows} asked for")
        }
        Kept::Sample { rows, seed } => {
            format!("{rows} rows of each (seed {seed}; of a single expert as many as it has)")
        }
    };
    say!(
        "{}: {}, {rows}, of {tokens} tokens in {}; {} no window",
        out.display(),
        counted(manifest.hooks.len(), "site", "sites"),
        counted(manifest.documents, "document", "documents"),
        counted(manifest.tokens_left_out, "token fills", "tokens fill")
    );
    near_ties::tell(ties);
}

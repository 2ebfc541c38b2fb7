//! `moescope record`: every value inside a forward pass, with edits and gradients.
//!
//! One pass over one batch. Points and edits have names of the hook grammar, the same for own runs and downloaded
//! checkpoints, so that a script written against the one works on the other.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use moescope_analysis::routing::LayerNearTies;
use moescope_base::{Edit, HookPattern, HookPoint, Objective, Request, Site, SubjectShape, Tokens};
use moescope_model::{ModelSubject, Work};
use moescope_trace::{Compat, Recording, read_input_ids, record_request, routing_points, write_recording};

use super::hook_list;
use super::record_corpus::{self, CorpusArgs};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::edit_plan;
use crate::failure::Failure;
use crate::memory::{Intent, MemoryArgs};
use crate::near_ties;
use crate::objective::GradientOf;
use crate::out_folder::require_no_input;
use crate::say;

/// Run a model and store every value that is asked for.
///
/// The file holds each value in f32 (indices in i64) under its full hook name, leading axes [batch, pos]; always `logits`
/// and `loss` ([batch, pos - 1], nats). The values of single experts are ragged: beside `NAME` stands `NAME.rows`, the
/// tokens (batch * positions + pos) that its rows belong to. Where a value of a router is recorded, `blocks.L.mlp.router.margin` and
/// `relative_margin` ([batch, pos]) say how narrow each choice was.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision].
    model: String,
    /// A safetensors file with `input_ids`, i64, [batch, pos].
    #[arg(long, value_name = "F.safetensors", conflicts_with = "text")]
    ids: Option<PathBuf>,
    /// Text files; each is one sequence, cut to the shortest one's length and to what the model takes.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    text: Vec<PathBuf>,
    #[command(flatten)]
    corpus: CorpusArgs,
    /// Hook names, separated by commas; `*` and `{3,17}` work, and each alternative must be there. Names of other tools, such as
    /// `blocks.3.hook_out` or `resid_post.3`, stand for ours, under which the values are stored; docs/hooks.md has all of them.
    #[arg(long, value_name = "PATTERN")]
    hooks: Option<String>,
    /// Print every hook of the model with its axes, their lengths, its meaning and other names, and stop.
    #[arg(long)]
    list_hooks: bool,
    /// Changes inside the pass: a TOML file with `[[edit]]` tables, applied in order.
    ///
    /// `kind = "value"` edits the value `at` a hook (zero, scale, add, set, mean, resample, patch), `kind = "route"` the routes of
    /// a `layer` (ban, force, allow-sets, replay, swap, shuffle, top-k, temperature, renormalise, set-weight). `from` names a file
    /// that record (or routing) wrote, for patch, mean and replay. docs/edits.md says what each does downstream.
    #[arg(long, value_name = "PLAN.toml")]
    edit: Option<PathBuf>,
    /// Also store `grad/NAME` for every recorded hook that has a gradient, single experts included: that of `loss`, the mean loss,
    /// or of "logit(TOKEN)-logit(TOKEN)", where TOKEN is an id or quoted text of one token.
    ///
    /// Logits are read at the last position, or at the one behind an `@`, as in "logit(5)-logit(' cat')@12"; each sequence has its
    /// own, which is stored as `objective`, [batch]. Gradients flow through the chosen experts and their weights, never through the
    /// choice of experts: it has no derivative. To compare with finite differences, hold the routes with `--edit` and `replay`.
    #[arg(long, value_name = "OF", allow_hyphen_values = true)]
    grad: Option<String>,
    /// Also store the routes as users of another tool expect them.
    ///
    /// For TransformerLens `blocks.L.mlp.hook_expert_indices` and `hook_expert_weights`: in version 2 all scores before the choice, in
    /// version 4 the weights as applied, zero elsewhere. For vLLM `routed_experts`, [batch, pos, routed layer, slot], and
    /// `routed_experts.layers`.
    #[arg(long, value_name = "TOOL")]
    compat: Option<Tool>,
    /// File to write; of a corpus the folder.
    #[arg(long, value_name = "F.safetensors")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
}

impl RecordArgs {
    /// Whether the work can be taken up again: that over a corpus.
    pub fn can_resume(&self) -> bool {
        self.corpus.is_named() && !self.memory.dry_run()
    }
}

/// Tools whose names `--compat` knows.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tool {
    /// TransformerLens 2.
    Tl2,
    /// TransformerLens 4.
    Tl4,
    /// vLLM, SGLang.
    Vllm,
}

impl From<Tool> for Compat {
    fn from(tool: Tool) -> Compat {
        match tool {
            Tool::Tl2 => Compat::TransformerLens2,
            Tool::Tl4 => Compat::TransformerLens4,
            Tool::Vllm => Compat::Vllm,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If model, input, hooks or edits are wrong, or the file cannot be written.
pub fn run(args: &RecordArgs, context: &Context) -> Result<(), Failure> {
    // What only looks ahead needs no weights, and fetches none.
    let checkpoint = match args.list_hooks {
        true => Checkpoint::find_headers(&args.model, false, context)?,
        false => Checkpoint::find_for(&args.model, args.memory.dry_run(), context)?,
    };
    let description = moescope_model::describe(checkpoint.path())?;
    let shape = description.subject_shape();
    if args.list_hooks {
        hook_list::print(&description, context);
        return Ok(());
    }
    let compat = args.compat.map(Compat::from);
    let (true, Some(out)) = (args.hooks.is_some() || compat.is_some(), &args.out) else {
        return Err(Failure::input(
            "record needs --hooks PATTERN[,…] (or --compat TOOL) and --out F.safetensors; or --list-hooks",
        ));
    };
    let (points, renamed) = points(args, compat, &shape)?;
    tell_renamed(&renamed, context);
    if args.corpus.is_given()? {
        let call = record_corpus::Call { model: &args.model, points, out, memory: &args.memory };
        return record_corpus::run(&args.corpus, &call, &checkpoint, &description, context);
    }
    require_place(args, &checkpoint, out)?;
    let tokens = tokens(args, &checkpoint, description.max_positions, context)?;
    if tokens.positions() < 2 {
        return Err(Failure::input("sequences of 1 token have no next token to predict; wanted 2 or more"));
    }
    let plan = args.edit.as_deref().map(|path| edit_plan::read(path, &tokens));
    let edits = plan.transpose()?.unwrap_or_default();
    let encode = |text: &str| Ok(checkpoint.tokenizer()?.encode(text)?);
    let of = args.grad.as_deref().map(|of| GradientOf::parse(of, tokens.positions(), encode)).transpose()?;
    let gradients = if of.is_some() { differentiable(&points) } else { Vec::new() };
    let objective = match &of {
        Some(GradientOf::Logits(terms)) => Objective::Logits(terms),
        _ => Objective::Loss,
    };
    // What routes are recorded from tells near-ties, too, whether it is written or not.
    let written = joined(&points, &[HookPoint::global(Site::Logits)]);
    let recorded = joined(&written, &routing_points(&shape));
    let request = Request {
        record: &recorded,
        edits: &edits,
        gradients: &gradients,
        objective,
        ..Request::of(&tokens)
    };
    let intent = intent(&tokens, &recorded, &edits, !gradients.is_empty(), context);
    if args.memory.dry_run() {
        let disk = description.recorded_bytes(&written, tokens.len() as u64, tokens.positions());
        return args.memory.tell(checkpoint.path(), &Intent { disk, ..intent }, context);
    }
    let mut subject = ModelSubject::new(args.memory.open(checkpoint.path(), &intent.work, context)?);
    let pool = context.pool()?;
    let mut recording = pool.install(|| record_request(&mut subject, &request))?;
    let ties = near_ties::of_values(&shape, &recording.values);
    let margins = near_ties::margins(&written, &recording.values);
    recording.values.retain(|point, _| written.contains(point));
    let exports = compat.map(|compat| compat.exports(&recording, &shape)).transpose()?.unwrap_or_default();
    let exports = [margins, exports].concat();
    write_recording(out, &recording, &exports)?;
    tell(&recording, &ties, &renamed, out, context);
    Ok(())
}

/// Refuses to write over the model, the input, the plan of edits, or what it names.
fn require_place(args: &RecordArgs, checkpoint: &Checkpoint, out: &Path) -> Result<(), Failure> {
    let read = [Some(checkpoint.path()), args.ids.as_deref(), args.edit.as_deref()];
    let sources = args.edit.as_deref().map(edit_plan::sources).transpose()?.unwrap_or_default();
    let more = args.text.iter().chain(&sources).map(PathBuf::as_path);
    require_no_input(out, read.into_iter().flatten().chain(more))
}

/// What to record: the hooks that are named, and those that an export is made from; and the aliases among the names.
fn points(
    args: &RecordArgs,
    compat: Option<Compat>,
    shape: &SubjectShape,
) -> Result<(Vec<HookPoint>, Renamed), Failure> {
    let patterns = args.hooks.as_deref().map(HookPattern::list).unwrap_or_default();
    // With a version named, the name that versions use for different values is what that export holds.
    let exported = |pattern: &HookPattern| {
        matches!(compat, Some(Compat::TransformerLens2 | Compat::TransformerLens4))
            && pattern.source().ends_with(".mlp.hook_expert_weights")
    };
    let patterns: Vec<HookPattern> = patterns.into_iter().filter(|pattern| !exported(pattern)).collect();
    let mut points = HookPattern::select(&patterns, &shape.hook_points())?;
    let renamed = patterns.iter().filter_map(|pattern| {
        let point = pattern.source().parse::<HookPoint>().ok()?;
        Some((pattern.source().to_owned(), point)).filter(|(name, point)| *name != point.to_string())
    });
    let renamed = renamed.collect();
    points.extend(compat.into_iter().flat_map(|compat| compat.points(shape)));
    points.sort_unstable();
    points.dedup();
    if points.is_empty() {
        let found =
            if args.hooks.is_some() { "--hooks names no hook" } else { "the model has no routes to export" };
        return Err(Failure::input(format!("{found}; see --list-hooks")));
    }
    Ok((points, renamed))
}

/// Names of other tools, and the points that they stand for.
type Renamed = Vec<(String, HookPoint)>;

/// Says under which name a value is stored that was asked for under another.
fn tell_renamed(renamed: &Renamed, context: &Context) {
    for (name, point) in renamed {
        context.progress().note(&format!("`{name}` is stored under its name here, `{point}`"));
    }
}

/// The points of both, each once.
fn joined(points: &[HookPoint], more: &[HookPoint]) -> Vec<HookPoint> {
    let mut all = [points, more].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// One pass over all tokens.
fn intent<'a>(
    tokens: &Tokens,
    record: &'a [HookPoint],
    edits: &'a [Edit],
    gradients: bool,
    context: &Context,
) -> Intent<'a> {
    let (batch, positions) = (tokens.batch(), tokens.positions());
    let work = Work { batch, positions, record, edits, gradients, kept: 0, threads: context.threads() };
    Intent { work, passes: 1, disk: 0 }
}

/// Points at which a gradient exists: a choice of experts has none. They are left out rather than refused, so that a
/// pattern may cover whole blocks.
fn differentiable(points: &[HookPoint]) -> Vec<HookPoint> {
    points.iter().copied().filter(|point| point.site().has_gradient()).collect()
}

/// The input, `[sequence, position]`, from ids or from text.
fn tokens(
    args: &RecordArgs,
    checkpoint: &Checkpoint,
    longest: usize,
    context: &Context,
) -> Result<Tokens, Failure> {
    match (&args.ids, args.text.as_slice()) {
        (Some(path), _) => Ok(read_input_ids(path)?),
        (None, []) => {
            Err(Failure::input("record needs input: --ids F.safetensors, --text PATH…, or --corpus PATH"))
        }
        (None, paths) => text_tokens(checkpoint, paths, longest, context),
    }
}

/// Encodes each file as one sequence, cut to the shortest and to `longest`: a batch is a full rectangle, and padding
/// would be seen by attention and routers. What is cut off is said.
///
/// # Errors
/// If a file cannot be read or is no plain text, the model folder has no tokenizer, or the shortest text has fewer than two tokens.
fn text_tokens(
    checkpoint: &Checkpoint,
    paths: &[PathBuf],
    longest: usize,
    context: &Context,
) -> Result<Tokens, Failure> {
    let tokenizer = checkpoint.tokenizer()?;
    let mut sequences = Vec::new();
    for path in paths {
        require_plain(path)?;
        sequences.push(tokenizer.encode(&moescope_host::read_text(path)?)?);
    }
    let (shortest, of) = sequences.iter().map(Vec::len).zip(paths).min().expect("a path at least is given");
    if shortest < 2 {
        let of = of.display();
        return Err(Failure::input(format!("{of} has {shortest} tokens; wanted 2 or more in each text")));
    }
    let length = shortest.min(longest);
    for (sequence, path) in sequences.iter().zip(paths).filter(|(sequence, _)| sequence.len() > length) {
        let why = match length < shortest {
            true => "the model takes no more".to_owned(),
            false => format!("{} has no more, and all sequences have one length", of.display()),
        };
        let (path, all) = (path.display(), sequence.len());
        context
            .progress()
            .note(&format!("{path}: the first {length} of {all} tokens; {why} (--corpus reads all)"));
    }
    let ids = sequences.iter().flat_map(|sequence| &sequence[..length]).copied().collect();
    Ok(Tokens::new(ids, sequences.len(), length)?)
}

/// Refuses files that hold documents rather than being one: read as they stand, their quotes and keys would be the text.
///
/// # Errors
/// If the name ends in `.jsonl`, `.parquet`, `.gz` or `.zst`.
fn require_plain(path: &Path) -> Result<(), Failure> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ["jsonl", "parquet", "gz", "zst"].contains(&ending) {
        true => Err(Failure::input(format!(
            "{} holds documents and is no plain text; record what is in it with --corpus, or give a text file",
            path.display()
        ))),
        false => Ok(()),
    }
}

/// Says what was stored, with the mean loss in nats per token: a first check that model and tokenizer belong
/// together.
fn tell(recording: &Recording, ties: &[LayerNearTies], renamed: &Renamed, out: &Path, context: &Context) {
    let loss = recording.loss.iter().map(|l| f64::from(*l)).sum::<f64>() / recording.loss.len().max(1) as f64;
    if context.json() {
        context.print_json(&serde_json::json!({
            "file": out,
            "values": recording.values.len(),
            "gradients": recording.gradients.len(),
            "batch": recording.tokens.batch(),
            "positions": recording.tokens.positions(),
            "loss": loss,
            "near_ties": near_ties::json(ties),
            "renamed": renamed.iter().map(|(name, point)| (name.clone(), point.to_string().into())).collect::<serde_json::Map<_, _>>(),
        }));
    } else {
        say!("{}: {} values, mean loss {loss:.4} nats per token", out.display(), recording.values.len());
        near_ties::tell(ties);
    }
}

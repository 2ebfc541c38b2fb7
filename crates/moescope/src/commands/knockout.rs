//! `moescope knockout`: what a model loses without some of its experts, against random experts of like load.

use std::io::Write;
use std::iter::repeat_n;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use moescope_analysis::Sample;
use moescope_analysis::knockout::{ExpertId, Knockout, KnockoutOptions, Removal, Removed, knockout};
use moescope_analysis::statistics::{Bootstrap, BootstrapMethod, Resampling};
use moescope_base::{HookPoint, Seed, Site, Subject, Table, Tokens};
use moescope_model::{ModelSubject, Work};
use moescope_report::{Report, Section};
use moescope_trace::CorpusWindow;

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::memory::{Intent, MemoryArgs};
use crate::out_folder::{finish, require_own, write_tables};
use crate::say;
use crate::shell::word;
use crate::text_windows::{Windows, corpus_of, positions, tell_few};

/// Sequences in one forward pass where all weights are in memory. Results do not depend on it.
const BATCH: usize = 16;
/// What the folder has when it is whole.
const DOCUMENT: &str = "knockout.json";
/// Replicates behind each interval.
const REPLICATES: usize = 1000;

/// Take experts out and measure what is lost, against random experts of like load.
///
/// Reports the change of the next-token loss and the divergence (KL) from the unedited model, in nats per token, with 95 %
/// intervals over the documents of the text, or over the windows of a single document. The same text is run without the named experts and
/// without sets of random experts of the same layers with similar loads; the difference is paired. An expert that no token
/// chooses changes nothing, exactly.
#[derive(Debug, Args)]
pub struct KnockoutArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision], with routed layers.
    model: String,
    /// Experts to take out, all at once, as LAYER:EXPERT.
    #[arg(long, value_name = "L:E,…")]
    experts: String,
    /// Text: files, which are documents or hold them (.txt, .jsonl, .parquet, also .gz and .zst), or folders of them.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    text: Vec<PathBuf>,
    /// What to compare with.
    #[arg(long, value_name = "WHAT", value_parser = ["random"], default_value = "random")]
    vs: String,
    /// Random sets of experts; fewer are drawn where there are no more.
    #[arg(long, value_name = "N", default_value_t = 8)]
    matched: usize,
    /// How an expert is taken out: `zero`, it writes nothing and nothing takes its place; `ban`, the next best is chosen.
    #[arg(long, value_enum, default_value_t = How::Zero)]
    how: How,
    /// Tokens in a window; the model's limit if that is lower.
    #[arg(long, value_name = "N", default_value_t = 128)]
    positions: usize,
    /// Tokens of each domain of the text, at most; files named together are one domain, sub-folders are domains.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    tokens: usize,
    /// Seed of the random sets and of the intervals.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Folder to write: tables/*.parquet, knockout.json and report.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// How an expert is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    Zero,
    Ban,
}

/// Runs the command.
///
/// # Errors
/// If model, experts or text are wrong, a file cannot be written, the model does not fit into memory in any way, or the work is
/// interrupted.
pub fn run(args: &KnockoutArgs, context: &Context) -> Result<(), Failure> {
    if args.positions < 2 {
        return Err(Failure::input("--positions must be 2 or more"));
    }
    let experts = ExpertId::list(&args.experts)?;
    if let Some(out) = &args.out {
        require_own(out, "a knockout", &[DOCUMENT])?;
    }
    let checkpoint = Checkpoint::find_for(&args.model, args.memory.dry_run(), context)?;
    let description = moescope_model::describe(checkpoint.path())?;
    if description.subject_shape().routed_layers().is_empty() {
        return Err(Failure::input(format!("{} is dense: it has no experts to take out", args.model)));
    }
    let positions = positions(args.positions, description.max_positions, context);
    let corpus = corpus_of(&args.text)?;
    let limit = Some(args.tokens.max(2 * positions));
    let windows = Windows::of(&corpus, &checkpoint.tokenizer()?, positions, limit, context.interrupt())?;
    windows.tell_short(context);
    let record = [HookPoint::global(Site::Logits)];
    let work = |batch: usize| Work {
        batch,
        positions,
        record: &record,
        edits: &[],
        gradients: false,
        // The logits of the unedited model are kept while each edited one is compared with them.
        kept: 2 * description.recorded_bytes(&record, (batch * positions) as u64, positions),
        threads: context.threads(),
    };
    let sequences = args.memory.sequences(checkpoint.path(), windows.windows.len(), BATCH, work)?;
    if args.memory.dry_run() {
        let passes = (3 + args.matched) * windows.windows.len().div_ceil(sequences);
        return args.memory.tell(
            checkpoint.path(),
            &Intent { work: work(sequences), passes, disk: 0 },
            context,
        );
    }
    let text = Text::of(&windows, sequences, positions)?;
    let model = args.memory.open(checkpoint.path(), &work(sequences), context)?;
    let found = measured(
        args,
        ModelSubject::new(model).stopped_by(context.interrupt().shared_flag()),
        &text,
        &experts,
        context,
    );
    let found = found.map_err(|failure| context.interrupt().or(failure))?;
    let document = document(args, &text, &found);
    if let Some(out) = &args.out {
        finish(out, DOCUMENT, || write(out, args, &text, &found, &document))?;
    }
    match context.json() {
        true => context.print_json(&document),
        false => tell_person(args, &text, &found),
    }
    Ok(())
}

/// The passes and what they show.
///
/// The time that is told as left takes all passes for equally long. Intervals rest on the units of the text,
/// which are documents or windows.
fn measured(
    args: &KnockoutArgs,
    mut subject: impl Subject + Send,
    text: &Text,
    experts: &[ExpertId],
    context: &Context,
) -> Result<Knockout, Failure> {
    let seed = Seed(args.seed);
    let resampling = Resampling {
        replicates: REPLICATES,
        level: 0.95,
        method: BootstrapMethod::Percentile,
        seed: seed.child("intervals"),
    };
    let removal = match args.how {
        How::Zero => Removal::Zero,
        How::Ban => Removal::Ban,
    };
    let options = KnockoutOptions { removal, matched: args.matched, resampling, seed };
    let (pool, progress) = (context.pool()?, context.progress());
    let started = std::time::Instant::now();
    let mut tell = |done: usize, all: usize| {
        let left = started.elapsed().mul_f64(all.saturating_sub(done) as f64 / done as f64);
        progress.advance(done as f64 / all as f64, Some(left), &format!("pass {done} of {all}"));
    };
    let found = pool.install(|| knockout(&mut subject, &text.samples, experts, &options, &mut tell));
    progress.clear();
    Ok(found?)
}

/// The text as passes, and what its independent units are.
struct Text {
    samples: Vec<Sample>,
    unit: &'static str,
    tokens: usize,
}

impl Text {
    /// Passes of so many windows. Units are documents where there are several, else windows.
    ///
    /// # Errors
    /// If there are fewer than two windows.
    fn of(text: &Windows, sequences: usize, positions: usize) -> Result<Text, Failure> {
        let (units, unit) = text.units()?;
        let sample = |(windows, units): (&[CorpusWindow], &[u32])| {
            let ids = windows.iter().flat_map(|window| &window.ids).copied().collect();
            let documents = units.iter().flat_map(|unit| repeat_n(*unit, positions)).collect();
            Ok::<_, Failure>(Sample::new(Tokens::new(ids, windows.len(), positions)?, documents)?)
        };
        let passes = text.windows.chunks(sequences).zip(units.chunks(sequences));
        Ok(Text { samples: passes.map(sample).collect::<Result<_, _>>()?, unit, tokens: text.tokens() })
    }
}

/// The result for programs.
fn document(args: &KnockoutArgs, text: &Text, found: &Knockout) -> serde_json::Value {
    let bootstrap = |b: &Bootstrap| serde_json::json!({ "estimate": b.estimate, "ci_low": b.low, "ci_high": b.high, "standard_error": b.standard_error });
    let set = |set: &Removed| {
        let experts: Vec<String> = set.experts.iter().map(ExpertId::to_string).collect();
        serde_json::json!({ "experts": experts, "load": set.load, "loss": bootstrap(&set.loss), "kl": bootstrap(&set.kl) })
    };
    let against = found.against.map(|against| {
        serde_json::json!({
            "loss": bootstrap(&against.loss), "loss_p": against.loss_p, "kl": bootstrap(&against.kl), "kl_p": against.kl_p,
        })
    });
    serde_json::json!({
        "schema": 1,
        "model": args.model,
        "how": if args.how == How::Ban { "ban" } else { "zero" },
        "vs": args.vs,
        "seed": args.seed,
        "tokens": text.tokens,
        "unit": "nats per token",
        "units": text.unit,
        "n": found.free_loss.units,
        "level": 0.95,
        "free_loss": bootstrap(&found.free_loss),
        "removed": set(&found.removed),
        "matched": found.matched.iter().map(set).collect::<Vec<_>>(),
        "removed_minus_matched": against,
    })
}

/// The result for people.
fn tell_person(args: &KnockoutArgs, text: &Text, found: &Knockout) {
    let n = found.free_loss.units;
    let interval = |b: &Bootstrap| format!("{:+.4} [{:+.4}, {:+.4}]", b.estimate, b.low, b.high);
    say!("{} tokens, {n} {}; nats per token, 95 % intervals", text.tokens, text.unit);
    say!("loss of the unedited model     {:.4}", found.free_loss.estimate);
    let removed = &found.removed;
    say!(
        "without {:22} loss {}  KL {}  load {:.4}",
        args.experts,
        interval(&removed.loss),
        interval(&removed.kl),
        removed.load
    );
    let Some(against) = &found.against else {
        say!("no random experts to compare with");
        return;
    };
    let sets = found.matched.len();
    let mean = |pick: fn(&Removed) -> f64| found.matched.iter().map(pick).sum::<f64>() / sets as f64;
    say!(
        "without random experts         loss {:+.4}  KL {:+.4}  load {:.4}  (mean of {sets} sets)",
        mean(|set| set.loss.estimate),
        mean(|set| set.kl.estimate),
        mean(|set| set.load)
    );
    say!("beyond random experts          loss {}  KL {}", interval(&against.loss), interval(&against.kl));
    say!("share of sets with as much     loss {:.3}  KL {:.3}", against.loss_p, against.kl_p);
    tell_few(n, text.unit);
}

/// Writes tables and report, and last the document: a folder that has it is whole.
fn write(
    out: &Path,
    args: &KnockoutArgs,
    text: &Text,
    found: &Knockout,
    document: &serde_json::Value,
) -> Result<(), Failure> {
    let tables: Vec<Table> = std::iter::once(found.table()?).chain(found.against_table()?).collect();
    write_tables(out, &tables)?;
    moescope_report::write_html(&report(args, text, found, &tables), &out.join("report.html"))?;
    moescope_host::replace(&out.join(DOCUMENT), |file| writeln!(file, "{document:#}"))?;
    Ok(())
}

/// The report: one section for each table.
fn report(args: &KnockoutArgs, text: &Text, found: &Knockout, tables: &[Table]) -> Report {
    let section = |table: &Table| Section {
        id: table.name().to_owned(),
        heading: table.title().to_owned(),
        tables: vec![table.clone()],
        method: vec![table.method().to_owned()],
        ..Section::default()
    };
    let paths: Vec<String> = args.text.iter().map(|path| word(path.display())).collect();
    let how = if args.how == How::Ban { "ban" } else { "zero" };
    let command = format!(
        "moescope knockout {} --experts {} --text {} --vs {} --matched {} --how {how} --positions {} --tokens {} --seed {}",
        word(&args.model),
        word(&args.experts),
        paths.join(" "),
        args.vs,
        args.matched,
        args.positions,
        args.tokens,
        args.seed
    );
    Report {
        title: format!("{} without {}", args.model, args.experts),
        subtitle: format!("{} tokens, {} {}", text.tokens, found.free_loss.units, text.unit),
        lead: vec![format!("Loss of the unedited model: {:.4} nats per token.", found.free_loss.estimate)],
        sections: tables.iter().map(section).collect(),
        reproduce: vec![
            ("Command".into(), command),
            ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION"))),
        ],
        notes: vec![format!("The independent units behind intervals are {}.", text.unit)],
        ..Report::default()
    }
}

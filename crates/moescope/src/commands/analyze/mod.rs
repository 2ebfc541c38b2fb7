//! `moescope analyze`: one instrument of the case, or all of them, on any model and text.

mod needs;
mod report;
mod room;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use clap::Args;
use moescope_analysis::instrument::{
    About, CASE, EXCERPT, Finding, Gives, Instrument, Material, Number, named,
};
use moescope_analysis::wording::counted;
use moescope_base::Seed;
use moescope_corpus::Corpus;
use moescope_model::ModelSubject;
use needs::{kept, looked_at};
use report::{document, in_words, write};
use room::{Passes, Room};
use watch::Watch;

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::NOTHING_WRITTEN;
use crate::memory::{Intent, MemoryArgs};
use crate::others::{OtherModel, Running};
use crate::out_folder::{finish, require_own};
use crate::say;
use crate::text_windows::{Windows, positions, texts};

/// What the folder has when it is whole.
const DOCUMENT: &str = "analysis.json";

/// Run instruments of the case on a model: what they find, with intervals and nulls, as tables and a report.
///
/// `moescope analyze --list` tells what each instrument asks, what its null is and what it costs. Every sub-folder of the text
/// folder is one domain. Instruments that the model or the text does not allow are named with the reason; with `all` that is no
/// error.
#[derive(Clone, Debug, Args)]
pub struct AnalyzeArgs {
    /// Names of instruments, parted by commas, or `all`.
    #[arg(required_unless_present = "list")]
    names: Option<String>,
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision].
    #[arg(required_unless_present = "list")]
    model: Option<String>,
    /// List the instruments and end.
    #[arg(long)]
    list: bool,
    /// Folder with one sub-folder of text for each domain; or any folder or file of text (.txt, .jsonl, .parquet, also .gz and .zst),
    /// which is then one domain.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    text: Option<PathBuf>,
    /// Folder to write: analysis.json, tables/*.parquet and report.html.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Tokens in a window; the model's limit if that is lower.
    #[arg(long, value_name = "N", default_value_t = 128)]
    positions: usize,
    /// Tokens of each domain, at most.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    tokens: usize,
    /// Of a longer text, tokens that instruments read, at most, which look at vectors, train, or change the model; a quarter where they run the
    /// model anew for each of many changes. Those that count routes read everything: `--list` tells.
    #[arg(long, value_name = "N", default_value_t = EXCERPT)]
    excerpt: usize,
    /// Draws behind each permutation null.
    #[arg(long, value_name = "N", default_value_t = 99)]
    permutations: usize,
    /// Seed of everything that is drawn.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Another model of the same tokens, for instruments that compare models; or a folder of checkpoints, such as RUN/checkpoints. May be
    /// given several times.
    #[arg(long, value_name = "MODEL")]
    against: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Runs the command.
///
/// # Errors
/// If a name, the model or the text is wrong, an instrument that was named cannot run, or a file cannot be written. What the other
/// instruments found is written all the same, unless none of them ran.
pub fn run(args: &AnalyzeArgs, context: &Context) -> Result<(), Failure> {
    let (Some(names), Some(model), Some(text), Some(out)) = (&args.names, &args.model, &args.text, &args.out)
    else {
        return list(args.excerpt, context);
    };
    require_numbers(args)?;
    let mut instruments = chosen(names, !args.against.is_empty())?;
    require_own(out, "an analysis", &[DOCUMENT])?;
    let checkpoint = Checkpoint::find_for(model, args.memory.dry_run(), context)?;
    let tokenizer = checkpoint.tokenizer()?;
    let description = moescope_model::describe(checkpoint.path())?;
    let positions = positions(args.positions, description.max_positions, context);
    let others = OtherModel::find_all(&args.against, &tokenizer, args.memory.dry_run(), context)?;
    let corpus = Corpus::from_path(text)?;
    let windows = Windows::of(&corpus, &tokenizer, positions, Some(args.tokens), context.interrupt())?;
    windows.tell_short(context);
    windows.tell_few(context);
    let shape = description.subject_shape();
    let routed = !shape.routed_layers().is_empty();
    require_routes(names, &instruments, routed)?;
    let record = looked_at(&instruments, &shape);
    let tokens = windows.tokens();
    let passes = Passes {
        memory: &args.memory,
        path: checkpoint.path(),
        windows: windows.windows.len(),
        positions,
        record: &record,
        kept: kept(&instruments, &shape, (tokens, positions), args.excerpt),
        threads: context.threads(),
    };
    let running = |sequences: usize| Running {
        sequences,
        positions,
        threads: context.threads(),
        bound: args.memory.bound(),
        stop: context.interrupt().shared_flag(),
    };
    // One of them is open at a time.
    let take = others.iter().map(|other| other.memory(&running(1))).collect::<Result<Vec<u64>, _>>()?;
    let take = take.into_iter().max().unwrap_or(0);
    let Room { sequences, beside, for_weights, left_out } =
        passes.room(&mut instruments, &shape, take, names == "all")?;
    let work = passes.work(sequences, beside);
    if args.memory.dry_run() {
        let passes = instruments.len() * windows.windows.len().div_ceil(sequences);
        return plan(args, checkpoint.path(), &Intent { work, passes, disk: 0 }, context);
    }
    let opened = args.memory.open(checkpoint.path(), &work, context)?;
    let watch = Watch::new(context.progress(), &instruments, routed);
    let mut subject = watch.over(ModelSubject::new(opened).stopped_by(context.interrupt().shared_flag()));
    let mut material = Material::new(&mut subject, windows.batches(sequences, &tokenizer)?, Seed(args.seed))?;
    material.permutations = args.permutations;
    material.excerpt_tokens = args.excerpt;
    material.others =
        others.iter().map(|other| watch.over_other(other.to_open(&running(sequences)))).collect();
    material.words = texts(&tokenizer);
    material.room_for_weights = for_weights;
    instruments.iter().flat_map(|instrument| instrument.overhears()).for_each(|what| material.expect(*what));
    let found = SoFar::new(left_out);
    let keep = {
        let (args, found, asked) = (args.clone(), found.clone(), instruments.clone());
        move || keep(&args, tokens, &found, &asked)
    };
    let ended = {
        let _heeds = context.interrupt().at_once_after(keep.clone());
        outcomes((&instruments, &watch), routed, (&mut material, &found), context)
    };
    if let Err(failure) = ended {
        return Err(match context.interrupt().flag().load(Ordering::Relaxed) {
            // An instrument that looks at the flag may be the first to hear.
            true => Failure::interrupted(keep(), context.interrupt().exit()),
            false => failure,
        });
    }
    deliver(args, out, tokens, &found.take().1, context)
}

/// What instruments found so far, within reach of whoever hears a wish to stop, and how many have ended.
#[derive(Clone)]
struct SoFar(Arc<Mutex<(usize, Vec<Outcome>)>>);

impl SoFar {
    /// With those that were left out before any began.
    fn new(left_out: Vec<Outcome>) -> SoFar {
        SoFar(Arc::new(Mutex::new((0, left_out))))
    }

    fn push(&self, outcome: Outcome) {
        let mut so_far = self.0.lock().expect("nobody panics with it");
        // Those that were left out stay last.
        let ended = so_far.0;
        so_far.1.insert(ended, outcome);
        so_far.0 += 1;
    }

    fn take(&self) -> (usize, Vec<Outcome>) {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}

/// Writes what was found before a wish to stop, unless a whole analysis stands there, and says so.
fn keep(args: &AnalyzeArgs, tokens: usize, found: &SoFar, asked: &[&'static dyn Instrument]) -> String {
    let out = args.out.as_deref().expect("an analysis has a folder");
    let (ended, mut outcomes) = found.take();
    let whole = outcomes.iter().filter(|outcome| outcome.found.is_ok()).count();
    if whole == 0 {
        return NOTHING_WRITTEN.into();
    }
    if out.join(DOCUMENT).exists() {
        return format!(
            "interrupted before the end; the analysis that was in {} stays as it was",
            out.display()
        );
    }
    let all = counted(asked.len(), "instrument", "instruments");
    let rest = asked[ended..].iter().map(|instrument| instrument.about());
    outcomes.extend(rest.map(|about| Outcome { about, found: Err("interrupted before its end".into()) }));
    let mut document = document(args, tokens, &outcomes);
    document["interrupted"] = true.into();
    match finish(out, DOCUMENT, || write(args, out, tokens, &outcomes, &document)) {
        Ok(()) => format!("interrupted before the end; what {whole} of {all} found is in {}", out.display()),
        Err(failure) => failure.message,
    }
}

/// Tells what the work would take.
fn plan(
    args: &AnalyzeArgs,
    checkpoint: &Path,
    intent: &Intent<'_>,
    context: &Context,
) -> Result<(), Failure> {
    args.memory.tell(checkpoint, intent, context)?;
    if !context.json() {
        say!(
            "        one pass of the text for each instrument is counted: most make more, and those that count routes share theirs. `moescope analyze --list` tells the passes of each"
        );
    }
    Ok(())
}

/// Writes and tells what was found; instruments that were named and could not run are then an error all the same.
fn deliver(
    args: &AnalyzeArgs,
    out: &Path,
    tokens: usize,
    outcomes: &[Outcome],
    context: &Context,
) -> Result<(), Failure> {
    let lacking = if args.names.as_deref() == Some("all") { None } else { lacking(outcomes) };
    if outcomes.iter().all(|outcome| outcome.found.is_err()) {
        return Err(Failure::input(lacking.unwrap_or_else(|| "no instrument could run on this text".into())));
    }
    let document = document(args, tokens, outcomes);
    finish(out, DOCUMENT, || write(args, out, tokens, outcomes, &document))?;
    match context.json() {
        true => context.print_json(&document),
        false => tell_person(out, outcomes),
    }
    lacking.map_or(Ok(()), |lacking| {
        Err(Failure::input(format!("{lacking}; what the others found is in {}", out.display())))
    })
}

/// Refuses instruments for routed layers where there are none: that is known before any pass. Of `all`, those are left out.
fn require_routes(names: &str, instruments: &[&'static dyn Instrument], routed: bool) -> Result<(), Failure> {
    let wants =
        |instrument: &&&'static dyn Instrument| names != "all" && instrument.about().routed && !routed;
    match instruments.iter().find(wants) {
        Some(instrument) => Err(Failure::input(format!(
            "{}: the model is dense: it has no routed layer; leave it out, or ask for `all`, which leaves out what cannot be asked",
            instrument.about().name
        ))),
        None => Ok(()),
    }
}

/// The instruments that could not run, each with its reason.
fn lacking(outcomes: &[Outcome]) -> Option<String> {
    let reasons = outcomes.iter().filter_map(|outcome| {
        outcome.found.as_ref().err().map(|reason| format!("{}: {reason}", outcome.about.name))
    });
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Refuses numbers with which nothing can be read or tested.
fn require_numbers(args: &AnalyzeArgs) -> Result<(), Failure> {
    match args.positions < 2 || args.permutations == 0 || args.excerpt == 0 {
        true => Err(Failure::input("--positions must be 2 or more, --permutations and --excerpt 1 or more")),
        false => Ok(()),
    }
}

/// The findings for people, a line each.
fn tell_person(out: &Path, outcomes: &[Outcome]) {
    for outcome in outcomes {
        say!("{:20} {}", outcome.about.name, in_words(outcome));
    }
    say!("report: {}", out.join("report.html").display());
}

/// What became of an instrument: what it found, or why it could not be run.
struct Outcome {
    about: About,
    found: Result<Finding, String>,
}

/// Prints what there is.
fn list(excerpt: usize, context: &Context) -> Result<(), Failure> {
    if context.json() {
        let abouts: Vec<serde_json::Value> =
            CASE.iter().map(|instrument| listed(*instrument, excerpt)).collect();
        context.print_json(&serde_json::json!({ "instruments": abouts }));
        return Ok(());
    }
    for instrument in CASE {
        let about = instrument.about();
        let needs = if about.routed { ", routed models alone" } else { "" };
        say!("{}  ({}{needs})", about.name, about.group.name());
        say!("    {}", about.question);
        say!("    null: {}", about.null);
        say!("    does not show: {}", about.does_not_show);
        say!("    source: {}", about.source);
        say!("    forward passes: {}", about.passes);
        say!("    reads: {}", instrument.reads().in_words(excerpt));
        for gives in about.gives {
            say!("    gives {}", in_one_line(gives));
        }
        say!("");
    }
    Ok(())
}

/// What is said of an instrument, with the tokens of a text that it reads at most; null where it reads all.
fn listed(instrument: &dyn Instrument, excerpt: usize) -> serde_json::Value {
    let mut about = serde_json::to_value(instrument.about()).expect("texts, lists of them and a flag");
    about["reads_tokens"] = instrument.reads().tokens(excerpt).into();
    about
}

/// A table: its name, what a row is, and its results with unit and range.
fn in_one_line(gives: &Gives) -> String {
    let rows = if gives.rows.is_empty() { "one row".to_owned() } else { gives.rows.join(", ") };
    let numbers: Vec<String> = gives.numbers.iter().map(Number::to_string).collect();
    format!("{} [{rows}]: {}", gives.table, numbers.join(", "))
}

/// The instruments of a list of names; `all` are those that other models are not needed for, unless there are some.
fn chosen(names: &str, others: bool) -> Result<Vec<&'static dyn Instrument>, Failure> {
    if names == "all" {
        return Ok(CASE.iter().copied().filter(|instrument| others || !instrument.against()).collect());
    }
    let found = by_names(names)?;
    if others && !found.iter().any(|instrument| instrument.against()) {
        let comparing: Vec<&str> = CASE.iter().filter(|i| i.against()).map(|i| i.about().name).collect();
        return Err(Failure::input(format!(
            "--against compares models, which none of these instruments does; ask for one of {}, or leave it out",
            comparing.join(", ")
        )));
    }
    Ok(found)
}

/// The instruments of a list of names, parted by commas.
///
/// # Errors
/// If a name is none, or is named twice.
pub(super) fn by_names(names: &str) -> Result<Vec<&'static dyn Instrument>, Failure> {
    let known = || CASE.iter().map(|instrument| instrument.about().name);
    let found: Result<Vec<&'static dyn Instrument>, Failure> = names
        .split(',')
        .map(|name| {
            named(name.trim()).ok_or_else(|| {
                let near = moescope_base::nearest_name(&name.trim().to_lowercase(), known());
                let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                let all = known().collect::<Vec<_>>().join(", ");
                Failure::input(format!(
                    "there is no instrument `{name}`; {near}known are {all}; `all` by itself is all of them"
                ))
            })
        })
        .collect();
    let found = found?;
    let twice =
        found.iter().enumerate().find(|(at, one)| found[..*at].iter().any(|b| b.about() == one.about()));
    if let Some((_, twice)) = twice {
        return Err(Failure::input(format!("`{}` is named twice", twice.about().name)));
    }
    Ok(found)
}

/// Runs one instrument after the other; what cannot run is left out, with the reason.
fn outcomes(
    (instruments, watch): (&[&'static dyn Instrument], &Watch),
    routed: bool,
    (material, found_so_far): (&mut Material<'_>, &SoFar),
    context: &Context,
) -> Result<(), Failure> {
    let pool = context.pool()?;
    for (done, instrument) in instruments.iter().enumerate() {
        let about = instrument.about();
        watch.begin(done);
        let found = match about.routed && !routed {
            true => Err("the model is dense: it has no routed layer".to_owned()),
            false => pool.install(|| instrument.ask(material)).map_err(|error| error.to_string()),
        };
        // A stopped pass may have cost an instrument no more than its null: what it says then is no finding.
        if context.interrupt().flag().load(Ordering::Relaxed) {
            watch.clear();
            return Err(Failure::input("interrupted"));
        }
        found_so_far.push(Outcome { about, found });
    }
    watch.clear();
    Ok(())
}

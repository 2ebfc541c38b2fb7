//! `moescope dictionary measure`: what a dictionary explains of a model, against nulls.
//!
//! The text is gone through with the model as it is, with what the dictionary writes in place of the site, with what random directions
//! write, and with the mean and with zero there. Everything is summed by document, so that intervals are over documents.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use moescope_base::{Seed, Table};
use moescope_dictionary::Dictionary;
use moescope_model::{ModelSubject, Work};
use moescope_report::{Report, Section};

use super::figures;
use super::measures::{self, Measure, Measured};
use super::passes::{self, Passed, Text, number_of_passes};
use super::sites::{SiteArgs, Sites};
use super::tables;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::memory::{Intent, MemoryArgs};
use crate::out_folder::{finish, require_own, write_tables};
use crate::say;
use crate::shell::word;
use crate::text_windows::{Windows, corpus_of, positions, tell_few};

/// What the folder has when it is whole.
const DOCUMENT: &str = "measures.json";
/// Sequences in one forward pass where all weights are in memory. Results depend on it by the rounding of sums in `f64` alone.
const BATCH: usize = 16;

/// Measure a dictionary on text: explained variance, L0, dead features, density, loss recovered, absorption, each against its null.
///
/// Reports 95 % intervals over the documents of the text, or over the windows of a single document. Take text that the dictionary did not learn from.
/// Nulls: Gaussian rows of the same mean and covariance; random directions, as sparse; the mean of the site, and zero, put in.
#[derive(Debug, Args)]
pub(super) struct MeasureArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision].
    model: String,
    /// Folder of the dictionary, in SAELens' format.
    dictionary: PathBuf,
    /// Text: files, which are documents or hold them (.txt, .jsonl, .parquet, also .gz and .zst), or folders of them.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    text: Vec<PathBuf>,
    #[command(flatten)]
    sites: SiteArgs,
    /// Another dictionary of the same site: how many of its directions are found again.
    #[arg(long, value_name = "DICT")]
    against: Option<PathBuf>,
    /// Tokens in a window; the model's limit if that is lower.
    #[arg(long, value_name = "N", default_value_t = 128)]
    positions: usize,
    /// Tokens of each domain of the text, at most; files named together are one domain, sub-folders are domains.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    tokens: usize,
    /// Seed of nulls and intervals.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Folder to write: tables/*.parquet, measures.json and report.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Runs the command.
///
/// # Errors
/// If model, dictionary, site or text are wrong or do not fit each other, a file cannot be written, or the work is interrupted.
pub(super) fn run(args: &MeasureArgs, context: &Context) -> Result<(), Failure> {
    if args.positions < 2 {
        return Err(Failure::input("--positions must be 2 or more"));
    }
    if let Some(out) = &args.out {
        require_own(out, "a measurement of a dictionary", &[DOCUMENT])?;
    }
    let dictionary = Dictionary::open(&args.dictionary)?;
    let other = args.against.as_deref().map(Dictionary::open).transpose()?;
    let checkpoint = Checkpoint::find_for(&args.model, args.memory.dry_run(), context)?;
    let description = moescope_model::describe(checkpoint.path())?;
    let sites = sites(args, &dictionary, &description.subject_shape())?;
    let positions = positions(args.positions, description.max_positions, context);
    args.sites.require_rows(positions)?;
    require_width(&dictionary, &sites, sites.widths(&description, positions))?;
    let limit = Some(args.tokens.max(2 * positions));
    let tokenizer = checkpoint.tokenizer()?;
    let windows = Windows::of(&corpus_of(&args.text)?, &tokenizer, positions, limit, context.interrupt())?;
    let (units, unit) = windows.units()?;
    let record = sites.points();
    let work = |batch: usize| Work {
        batch,
        positions,
        record: &record,
        edits: &[],
        gradients: false,
        kept: kept(&dictionary, batch * positions),
        threads: context.threads(),
    };
    let sequences = args.memory.sequences(checkpoint.path(), windows.windows.len(), BATCH, work)?;
    if args.memory.dry_run() {
        let each = number_of_passes(sites.written().site().editable(), sites.target.is_some());
        let passes = each * windows.windows.len().div_ceil(sequences);
        return args.memory.tell(
            checkpoint.path(),
            &Intent { work: work(sequences), passes, disk: 0 },
            context,
        );
    }
    let model = args.memory.open(checkpoint.path(), &work(sequences), context)?;
    let mut subject = ModelSubject::new(model).stopped_by(context.interrupt().shared_flag());
    let text = Text { windows: &windows.windows, units: &units, sequences };
    let passed = passed(&mut subject, &dictionary, &sites, &text, args.seed, context)
        .map_err(|failure| context.interrupt().or(failure))?;
    let seed = Seed(args.seed);
    let found =
        context.pool()?.install(|| measures::of(&dictionary, other.as_ref(), &passed, &tokenizer, seed))?;
    let tables = tables::all(&found, unit, passed.evaluation.rows())?;
    let facts = Facts { args, sites: &sites, tokens: windows.tokens(), rows: passed.evaluation.rows(), unit };
    let document = facts.document(&found);
    if let Some(out) = &args.out {
        finish(out, DOCUMENT, || facts.write(out, &tables, &found, &document))?;
    }
    match context.json() {
        true => context.print_json(&document),
        false => facts.tell_person(&found),
    }
    Ok(())
}

/// Where the dictionary belongs: where it says, unless options say otherwise.
///
/// # Errors
/// If neither says it, or the model has no such hook: dictionaries of other tools may use names that are not known here.
fn sites(
    args: &MeasureArgs,
    dictionary: &Dictionary,
    shape: &moescope_base::SubjectShape,
) -> Result<Sites, Failure> {
    let place = dictionary.place();
    let read = args.sites.read()?.unwrap_or_else(|| place.hook.clone());
    if read.is_empty() {
        return Err(Failure::input(
            "the dictionary does not say which site it is of; name it with --site HOOK",
        ));
    }
    let target = args.sites.target.as_deref().or(place.target_hook.as_deref());
    Sites::find(shape, &read, target, args.sites.skip)
}

/// Refuses a dictionary that is not as wide as its sites.
fn require_width(
    dictionary: &Dictionary,
    sites: &Sites,
    (input, target): (usize, usize),
) -> Result<(), Failure> {
    let (reads, writes) = (dictionary.input_width(), dictionary.target_width());
    match (reads, writes) == (input, target) {
        true => Ok(()),
        false => Err(Failure::input(format!(
            "the dictionary reads {reads} numbers and writes {writes}, but {} has {input} and {} {target}; name its site with --site",
            sites.input,
            sites.written()
        ))),
    }
}

/// Bytes beside the model: the dictionary and random directions, features and rows of a pass, and the rows of the nulls.
fn kept(dictionary: &Dictionary, rows: usize) -> u64 {
    let width = dictionary.input_width() + dictionary.target_width();
    let (features, sample) = (dictionary.features(), 4096);
    4 * (3 * features * width
        + rows * (4 * features + 4 * width)
        + sample * (sample + 2 * features + 4 * width)) as u64
}

/// The passes, with their progress.
///
/// # Errors
/// As the passes, and when the user wishes to stop, which is heard at the next pass.
fn passed(
    subject: &mut (dyn moescope_base::Subject + Send),
    dictionary: &Dictionary,
    sites: &Sites,
    text: &Text<'_>,
    seed: u64,
    context: &Context,
) -> Result<Passed, Failure> {
    let (pool, progress) = (context.pool()?, context.progress());
    let started = Instant::now();
    let mut tell = |done: usize, all: usize| {
        let left = started.elapsed().mul_f64(all.saturating_sub(done) as f64 / done as f64);
        progress.advance(done as f64 / all as f64, Some(left), &format!("pass {done} of {all}"));
    };
    let passed = pool.install(|| passes::run(subject, dictionary, sites, text, Seed(seed), &mut tell));
    progress.clear();
    passed
}

/// What a result is told with, to programs, to people, and in a report.
struct Facts<'f> {
    args: &'f MeasureArgs,
    /// Where the dictionary read and wrote.
    sites: &'f Sites,
    /// Tokens of all windows.
    tokens: usize,
    /// Those that have a row at the sites.
    rows: u64,
    /// What the independent units are.
    unit: &'static str,
}

impl Facts<'_> {
    /// The result for programs. Numbers that do not exist are `null`: an interval of fewer than two units, random directions of a
    /// transcoder.
    fn document(&self, found: &Measured) -> serde_json::Value {
        let measure = |measure: &Measure| {
            serde_json::json!({
                "measure": measure.name, "unit": measure.unit, "value": measure.value,
                "ci_low": measure.interval.map(|ends| ends.0), "ci_high": measure.interval.map(|ends| ends.1),
                "n": measure.n, "null": measure.null, "random": measure.random, "against": measure.against,
            })
        };
        let bin = |bin: &moescope_dictionary::DensityBin| serde_json::json!({ "from": bin.from, "below": bin.below, "features": bin.features });
        let letter = |letter: &measures::LetterAbsorption| {
            let found = &letter.found;
            serde_json::json!({
                "letter": letter.letter, "feature": found.feature, "f1": found.f1, "tokens": found.tokens,
                "absorbed": found.absorbed, "null": letter.null,
            })
        };
        let again = found.again.as_ref().map(|(again, random)| {
            serde_json::json!({ "mean_cosine": again.mean, "found": again.found, "null_mean_cosine": random.mean, "null_found": random.found })
        });
        serde_json::json!({
            "schema": 1,
            "model": self.args.model,
            "dictionary": self.args.dictionary,
            "site": self.sites.input.to_string(),
            "target": self.sites.target.map(|target| target.to_string()),
            "tokens": self.tokens,
            "skip": self.sites.skip,
            "rows": self.rows,
            "units": self.unit,
            "level": 0.95,
            "seed": self.args.seed,
            "measures": found.measures.iter().map(measure).collect::<Vec<_>>(),
            "densities": found.bins.iter().map(bin).collect::<Vec<_>>(),
            "absorption": found.letters.iter().map(letter).collect::<Vec<_>>(),
            "found_again": again,
        })
    }

    /// The result for people: one line for each measure, with the same number under its null and of random directions.
    fn tell_person(&self, found: &Measured) {
        say!(
            "{} rows at {}, {} tokens; 95 % intervals over {}",
            self.rows,
            self.sites.written(),
            self.tokens,
            self.unit
        );
        say!("{:30} {:>9}  {:20} {:>9} {:>9}", "", "value", "interval", "null", "random");
        for measure in &found.measures {
            let interval =
                measure.interval.map_or_else(String::new, |(low, high)| format!("[{low:.4}, {high:.4}]"));
            let number =
                |number: Option<f64>| number.map_or_else(|| "–".into(), |number| format!("{number:.4}"));
            let (null, random) = (number(measure.null), number(measure.random));
            say!(
                "{:30} {:>9.4}  {interval:20} {null:>9} {random:>9}  {}",
                measure.name,
                measure.value,
                measure.unit
            );
        }
        if !found.letters.is_empty() {
            let mean = |pick: &dyn Fn(&measures::LetterAbsorption) -> f64| {
                found.letters.iter().map(pick).sum::<f64>() / found.letters.len() as f64
            };
            say!(
                "absorption of {} first letters    {:.4} of their tokens, {:.4} where letters are dealt out at random",
                found.letters.len(),
                mean(&|letter| letter.found.absorbed),
                mean(&|letter| letter.null.unwrap_or(0.0))
            );
        }
        if let Some((again, null)) = &found.again {
            say!(
                "found again of the other       {:.4} of its directions (random: {:.4}); mean cosine {:.4} ({:.4})",
                again.found,
                null.found,
                again.mean,
                null.mean
            );
        }
        let units = found.measures.first().map_or(0, |measure| measure.n);
        tell_few(units, self.unit);
    }

    /// Writes tables and report, and last the document: a folder that has it is whole.
    fn write(
        &self,
        out: &Path,
        tables: &[Table],
        found: &Measured,
        document: &serde_json::Value,
    ) -> Result<(), Failure> {
        write_tables(out, tables)?;
        moescope_report::write_html(&self.report(tables, found), &out.join("report.html"))?;
        moescope_host::replace(&out.join(DOCUMENT), |file| writeln!(file, "{document:#}"))?;
        Ok(())
    }

    /// The report: one section for each table.
    fn report(&self, tables: &[Table], found: &Measured) -> Report {
        let section = |table: &Table| Section {
            id: table.name().to_owned(),
            heading: table.title().to_owned(),
            figures: figures::of(table),
            tables: vec![table.clone()],
            method: vec![table.method().to_owned()],
            ..Section::default()
        };
        let paths: Vec<String> = self.args.text.iter().map(|path| word(path.display())).collect();
        let target = self.sites.target.map_or_else(String::new, |target| format!(" --target {target}"));
        let command = format!(
            "moescope dictionary measure {} {} --text {} --site {}{target} --skip {} --positions {} --tokens {} --seed {}",
            word(&self.args.model),
            word(self.args.dictionary.display()),
            paths.join(" "),
            word(self.sites.input),
            self.sites.skip,
            self.args.positions,
            self.args.tokens,
            self.args.seed
        );
        Report {
            title: format!("A dictionary of {}", self.sites.written()),
            subtitle: format!("{}, {} rows", self.args.model, self.rows),
            lead: vec![figures::sentence(found)],
            sections: tables.iter().map(section).collect(),
            reproduce: vec![
                ("Command".into(), command),
                ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION"))),
            ],
            notes: vec![
                format!("The independent units behind intervals are {}.", self.unit),
                "Features that explain much need not be what the model computes with, nor mean one thing."
                    .into(),
            ],
            ..Report::default()
        }
    }
}

//! `moescope validate`: every instrument on models in which it is known what is there.

use std::path::{Path, PathBuf};

use clap::Args;
use moescope_analysis::instrument::{CASE, LEVEL, Property};
use moescope_base::{Figure, FigureKind, Seed};
use moescope_report::{Report, Section};
use moescope_study::{Judgement, REQUIRED, Validity, ValidityOptions, validity};

use super::analyze::by_names;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::out_folder::{finish, require_own};
use crate::say;
use crate::shell::word;
use crate::validity_page::{counted_worlds, validity_page};

/// What the folder has when it is whole.
const DOCUMENT: &str = "validity.json";

/// Draws behind each permutation null.
const PERMUTATIONS: usize = 99;
/// Replicates behind each interval.
const REPLICATES: usize = 200;

/// Run every instrument on models whose weights are set by hand, and see whether it finds what is there, and nothing else.
///
/// Each property (routes by token, by domain, at random, twin experts, a copying head, …) is planted in models and texts of as many
/// seeds as are asked for. Each instrument says itself what it finds where, and what it does not. The exit code is 1 if a promise is
/// broken: something is missed in more than a tenth of the worlds, or found more often than chance allows where there is nothing; or if a
/// table has other rows, results, units or ranges than its instrument says.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Worlds of each property.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: usize,
    /// Worlds of each property where an instrument promises silence, for narrow rates of false alarms; as many as `--seeds` unless said.
    #[arg(long, value_name = "N")]
    silent_seeds: Option<usize>,
    /// Instruments, parted by commas, where not all of the case are to be run; each does the same as among all, and is
    /// judged as one of all.
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Origin of everything that is drawn.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Folder to write: validity.json, validity.md, tables/validity.parquet and report.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If no seed is asked for, a file cannot be written, or a promise is broken.
pub fn run(args: &ValidateArgs, context: &Context) -> Result<(), Failure> {
    let silent_seeds = args.silent_seeds.unwrap_or(args.seeds);
    if args.seeds == 0 || silent_seeds == 0 {
        let option = if args.seeds == 0 { "--seeds" } else { "--silent-seeds" };
        return Err(Failure::input(format!(
            "{option} 0; wanted 1 or more, and 20 for rates that tell something"
        )));
    }
    let case = match args.only.as_deref() {
        None | Some("all") => CASE.to_vec(),
        Some(names) => by_names(names)?,
    };
    if let Some(out) = &args.out {
        require_own(out, "the result of a bench", &[DOCUMENT])?;
    }
    let seed = Seed(args.seed);
    let options = ValidityOptions {
        seeds: args.seeds,
        silent_seeds,
        seed,
        permutations: PERMUTATIONS,
        replicates: REPLICATES,
    };
    let (pool, progress) = (context.pool()?, context.progress());
    let started = std::time::Instant::now();
    let tell = |done: usize, all: usize| {
        let left = started.elapsed().mul_f64(all.saturating_sub(done) as f64 / done as f64);
        progress.advance(done as f64 / all as f64, Some(left), &format!("world {done} of {all}"));
    };
    let found = pool.install(|| validity(&case, options, &tell))?;
    progress.clear();
    let document = document(args, &found);
    if let Some(out) = &args.out {
        finish(out, DOCUMENT, || write(args, out, &found, &document))?;
    }
    match context.json() {
        true => context.print_json(&document),
        false => tell_person(args, &found),
    }
    match broken(&found) {
        None => Ok(()),
        Some(message) => Err(Failure { message, exit: Exit::ThresholdNotMet }),
    }
}

/// What instruments said and did not keep; nothing if they kept everything.
fn broken(found: &Validity) -> Option<String> {
    let promises = found.broken().count();
    let mut broken = Vec::new();
    if promises > 0 {
        broken.push(format!("{promises} of {} promises are broken", found.judgements.len()));
    }
    if !found.unlike.is_empty() {
        let unlike: Vec<&str> = found.unlike.iter().map(String::as_str).collect();
        broken.push(format!("tables are not what their instruments say of them: {}", unlike.join("; ")));
    }
    (!broken.is_empty()).then(|| broken.join("; "))
}

/// The result for people.
fn tell_person(args: &ValidateArgs, found: &Validity) {
    for judgement in &found.judgements {
        say!(
            "{:20} {:18} {:11} {:>3} of {:<3} {}",
            judgement.about.name,
            judgement.promise.planted.name(),
            judgement.verdict(),
            judgement.rate.hits,
            judgement.rate.trials,
            judgement.promise.reading.says
        );
    }
    say!("{}", summary(found));
    if let Some(out) = &args.out {
        say!("report: {}", out.join("report.html").display());
    }
}

/// The result in one sentence.
fn summary(found: &Validity) -> String {
    let broken = found.broken().count();
    let all = found.judgements.len();
    let worlds = counted_worlds(&found.options);
    match broken {
        0 => format!("All {all} promises of the instruments are kept in {worlds}"),
        _ => format!("{broken} of {all} promises are broken in {worlds}"),
    }
}

/// The result for programs.
fn document(args: &ValidateArgs, found: &Validity) -> serde_json::Value {
    let judgement = |judgement: &Judgement| {
        serde_json::json!({
            "instrument": judgement.about.name,
            "promise": judgement.promise,
            "hits": judgement.rate.hits,
            "worlds": judgement.rate.trials,
            "rate": judgement.rate.share,
            "ci_low": judgement.rate.low,
            "ci_high": judgement.rate.high,
            "by_chance": (!judgement.promise.finds).then_some(judgement.by_chance),
            "kept": judgement.kept(),
            "verdict": judgement.verdict(),
        })
    };
    serde_json::json!({
        "schema": 1,
        "seeds": found.options.seeds,
        "silent_seeds": found.options.silent_seeds,
        "only": args.only,
        "seed": args.seed,
        "permutations": PERMUTATIONS,
        "replicates": REPLICATES,
        "required": REQUIRED,
        "level": LEVEL,
        "broken": found.broken().count(),
        "unlike": found.unlike,
        "unseen": found.unseen,
        "judgements": found.judgements.iter().map(judgement).collect::<Vec<_>>(),
    })
}

/// Writes table, page, report, and last `validity.json`: a folder that has it is whole.
fn write(
    args: &ValidateArgs,
    out: &Path,
    found: &Validity,
    document: &serde_json::Value,
) -> Result<(), Failure> {
    use std::io::Write;
    moescope_host::make_folder(&out.join("tables"))?;
    moescope_report::write_parquet(&found.table()?, &out.join("tables/validity.parquet"))?;
    let page = validity_page(found);
    moescope_host::replace(&out.join("validity.md"), |file| file.write_all(page.as_bytes()))?;
    moescope_report::write_html(&report(args, found)?, &out.join("report.html"))?;
    moescope_host::replace(&out.join(DOCUMENT), |file| writeln!(file, "{document:#}"))?;
    Ok(())
}

/// The report: all promises as rates by instrument and property, and what is planted.
fn report(args: &ValidateArgs, found: &Validity) -> Result<Report, Failure> {
    let table = found.table()?;
    let figure = Figure {
        id: "validity".into(),
        title: summary(found),
        caption: "Share of worlds in which the reading holds. What is promised to be found belongs at 1, where silence is promised near 0; \
                  empty where nothing is promised. The table has the intervals."
            .into(),
        table: table.name().into(),
        kind: FigureKind::Heatmap { x: "planted".into(), y: "reading".into(), value: "rate".into(), center: None },
    };
    let planted = Property::ALL.map(|property| format!("{}: {}.", property.name(), property.planted()));
    let results = Section {
        id: "validity".into(),
        heading: "What every instrument finds where it is known what is there".into(),
        figures: vec![figure],
        method: vec![table.method().to_owned()],
        tables: vec![table],
        limits: vec![
            "A kept promise says that the instrument can tell these cases apart, not that it finds weaker ones.".into(),
        ],
        ..Section::default()
    };
    let worlds = Section {
        id: "worlds".into(),
        heading: "What is planted".into(),
        prose: planted.to_vec(),
        ..Section::default()
    };
    let silent = args.silent_seeds.map_or_else(String::new, |worlds| format!(" --silent-seeds {worlds}"));
    let only = args.only.as_deref().map_or_else(String::new, |names| format!(" --only {}", word(names)));
    let command = format!("moescope validate --seeds {}{silent}{only} --seed {}", args.seeds, args.seed);
    Ok(Report {
        title: "What may be believed".into(),
        subtitle: format!("{} promises, {}", found.judgements.len(), counted_worlds(&found.options)),
        lead: vec![format!("{}.", summary(found))],
        sections: vec![results, worlds],
        reproduce: vec![
            ("Command".into(), command),
            ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION"))),
        ],
        ..Report::default()
    })
}

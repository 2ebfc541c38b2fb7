//! `moescope study`: from text to five answers.
//!
//! What is written and when is the contract of the folder: tables first, then the report, `answers.json` last.
//! Training, measuring and concluding are the study's own; this file only reads arguments and tells.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use moescope_study::{Conclusion, Event, Plan, Results, Study, StudyConfig, StudyError, conclude};

use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::say;
use crate::shell::word;
use crate::study_report;

/// Grow a family of models, look inside them, and answer the five questions.
///
/// Writes report.html, answers.json, tables/*.parquet and runs/*/ into the output folder. An interrupted study goes on
/// with the same command and --resume, and ends with the same answers.
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// A preset: quick (minutes; taken if nothing is given), standard (hours), smoke (seconds, answers mean nothing); or
    /// the path of a study of your own, which ends in .toml.
    #[arg(value_name = "PRESET|FILE.toml", conflicts_with = "config")]
    preset: Option<String>,
    /// A study of your own, whatever its name ends in; begin with the text that --print-config shows.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder of the study.
    #[arg(long, value_name = "DIR", default_value = "study")]
    out: PathBuf,
    /// Number of seeds, instead of the configuration's.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Folder with one sub-folder of text for each domain, instead of the configuration's corpus.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Instruments of `moescope analyze`, parted by commas, or `all`, that every language model is asked as well, instead of the configuration's.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    case: Vec<String>,
    /// Go on with the study that is in the folder.
    #[arg(long)]
    resume: bool,
    /// Show the plan, model by model and measured on this machine, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Print the configuration as TOML and stop.
    #[arg(long)]
    print_config: bool,
}

/// Runs the command.
///
/// # Errors
/// If the input is wrong, a file cannot be written, or the study is interrupted.
pub fn run(args: &StudyArgs, context: &Context) -> Result<(), Failure> {
    let config = configuration(args)?;
    if args.print_config {
        let text = toml::to_string(&config).expect("a study configuration is plain data");
        say!("{}", text.trim_end());
        return Ok(());
    }
    if args.dry_run {
        return dry_run(&config, context);
    }
    let stop = context.interrupt().flag();
    let study = Study::open(config, &args.out, args.resume, stop).map_err(|error| failure(error, context))?;
    output::message(format_args!("{}", study.plan(context.threads())?.to_string().trim_end()));
    let results = observe(&study, context)?;
    let conclusion = conclude(&results)?;
    write(&study, &results, &conclusion, args)?;
    tell(&study, &conclusion, context);
    Ok(())
}

/// The configuration that the arguments ask for: a file or a preset, with seeds and corpus replaced where they are
/// given, likewise the case, and checked as a whole afterwards. What is stored in the folder is the result, so a resumed study needs the
/// same arguments.
fn configuration(args: &StudyArgs) -> Result<StudyConfig, Failure> {
    let (text, source) = match (&args.config, &args.preset) {
        (Some(path), _) => (read(path)?, path.display().to_string()),
        (None, preset) => preset_text(preset.as_deref().unwrap_or("quick"))?,
    };
    let mut config = StudyConfig::parse(&text, &source)?;
    if let Some(seeds) = args.seeds {
        config.seeds = seeds;
    }
    if let Some(corpus) = &args.corpus {
        config.data.corpus.clone_from(corpus);
    }
    if !args.case.is_empty() {
        config.instruments.case = case(&args.case);
    }
    config.check()?;
    Ok(config)
}

/// Names of instruments without blanks around them; `all` are those that can be asked of what a study keeps.
fn case(names: &[String]) -> Vec<String> {
    let names: Vec<&str> = names.iter().map(|name| name.trim()).collect();
    match names[..] {
        ["all"] => StudyConfig::whole_case(),
        _ => names.into_iter().map(str::to_owned).collect(),
    }
}

/// The text of a preset, and the name under which errors speak of it.
fn preset_text(name: &str) -> Result<(String, String), Failure> {
    if let Some(text) = StudyConfig::preset_text(name) {
        return Ok((text.to_owned(), format!("preset {name}")));
    }
    // `moescope study my.toml` is what people type.
    if name.ends_with(".toml") {
        return Ok((read(Path::new(name))?, name.to_owned()));
    }
    let known = StudyConfig::PRESETS.join(", ");
    let meant = moescope_base::nearest_name(name, StudyConfig::PRESETS)
        .map(|preset| format!("did you mean `{preset}`? "));
    Err(Failure::input(format!(
        "there is no preset `{name}`; {}The presets are {known}; for a file give a path that ends in .toml, or --config FILE",
        meant.unwrap_or_default()
    )))
}

/// A text file, or a failure that names it.
fn read(path: &Path) -> Result<String, Failure> {
    Ok(moescope_host::read_text(path)?)
}

/// Prints the plan; nothing is written, and the time it takes is that of the calibration.
fn dry_run(config: &StudyConfig, context: &Context) -> Result<(), Failure> {
    let plan = Plan::measure(config, context.threads(), context.interrupt().flag());
    let plan = plan.map_err(|error| failure(error, context))?;
    if context.json() {
        context.print_json(&plan);
    } else {
        say!("{}", plan.to_string().trim_end());
    }
    Ok(())
}

/// Runs the study and turns its events into progress. What is done is kept, also after an interruption.
fn observe(study: &Study, context: &Context) -> Result<Results, Failure> {
    let progress = context.progress();
    let mut listener = |event: &Event| match event {
        Event::Stage { name, jobs } => progress.note(&format!("{name} ({jobs})")),
        Event::Advance { job, state, done, left } => {
            progress.advance(*done, *left, &format!("{job}: {state}"))
        }
        Event::Finished { job, state } => progress.note(&format!("{job}: {state}")),
    };
    let results = study.run(context.threads(), &mut listener, context.interrupt().flag());
    progress.clear();
    results.map_err(|error| failure(error, context))
}

/// The failure that an error of the study is. An interruption has the code of whoever interrupted.
fn failure(error: StudyError, context: &Context) -> Failure {
    match error {
        StudyError::Interrupted { .. } | StudyError::Stopped { .. } => {
            Failure::interrupted(error.to_string(), context.interrupt().exit())
        }
        other => other.into(),
    }
}

/// Writes everything that a reader opens. It is made anew from the measurements each time, so a changed program draws
/// new conclusions from an old folder with `--resume`.
fn write(study: &Study, results: &Results, conclusion: &Conclusion, args: &StudyArgs) -> Result<(), Failure> {
    let folder = study.folder();
    let tables = folder.tables()?;
    for table in conclusion.chapters.iter().flat_map(|c| &c.tables) {
        moescope_report::write_parquet(table, &tables.join(format!("{}.parquet", table.name())))?;
    }
    for (run, found) in results.analyses.iter().flat_map(|analysis| &analysis.runs) {
        for table in found.tables() {
            let place = folder.run(run).join("analyses").join(format!("{}.parquet", table.name()));
            moescope_report::write_parquet(table, &place)?;
        }
    }
    let report = study_report::build(results, conclusion, &command_line(args));
    moescope_report::write_html(&report, &folder.root().join("report.html"))?;
    // Last, so that a folder with answers is a finished study.
    moescope_report::write_answers(&conclusion.answers, &folder.root().join("answers.json"))?;
    Ok(())
}

/// The command as a person would type it to get the same numbers: without the folder, threads and progress, which
/// decide none.
fn command_line(args: &StudyArgs) -> String {
    let what = match (&args.config, &args.preset) {
        (Some(path), _) => format!("--config {}", word(path.display())),
        (None, preset) => preset.clone().unwrap_or_else(|| "quick".into()),
    };
    let seeds = args.seeds.map_or_else(String::new, |n| format!(" --seeds {n}"));
    let corpus =
        args.corpus.as_ref().map_or_else(String::new, |c| format!(" --corpus {}", word(c.display())));
    let case = match args.case.is_empty() {
        true => String::new(),
        false => format!(" --case {}", word(args.case.join(","))),
    };
    format!("moescope study {what}{seeds}{corpus}{case}")
}

/// Prints the answers: for people question, verdict and certainty, as JSON the whole of `answers.json`.
fn tell(study: &Study, conclusion: &Conclusion, context: &Context) {
    if context.json() {
        context.print_json(&conclusion.answers);
        return;
    }
    for answer in &conclusion.answers.questions {
        say!(
            "{}  {}\n    {} (certainty: {})\n",
            answer.id,
            answer.question,
            answer.verdict,
            answer.confidence
        );
    }
    say!("report: {}", study.folder().root().join("report.html").display());
}

/// A duration as people say it: `4 min 10 s`. Whole seconds below an hour, whole minutes above; the rest is cut off.
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

//! `moescope routing --from`: statistics over any number of recorded routes, in one pass and in bounded memory.
//!
//! Recorded stores are read one at a time, counted and let go. What is counted is kept as sums that add up, so that parts can be counted on many
//! machines and their sums counted again, with the same tables to the byte.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use moescope_analysis::counting::{CountingPlan, CountsManifest, RouteCounts};
use moescope_analysis::route_report::{Chapter, counted_chapters};
use moescope_analysis::wording::counted as counted_of;
use moescope_base::Table;
use moescope_report::Report;
use moescope_trace::{Manifest, TraceFolder, read_sums, write_sums};
use serde::{Deserialize, Serialize};

use super::routing::{findings, section, tables};
use crate::context::Context;
use crate::failure::Failure;
use crate::out_folder::{finish, require_own, write_tables};
use crate::say;
use crate::shell::word;

/// What says what a folder of sums holds; written last.
const COUNTS: &str = "counts.json";

/// Sums are saved no oftener than this while stores are counted.
const SAVE_AFTER: Duration = Duration::from_secs(300);

/// Sizes of what is counted.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct CountingArgs {
    /// With --from: rows of the tables by token id. With more ids than rows, what experts tell about tokens is a lower bound.
    #[arg(long, value_name = "N", default_value_t = 65_536, requires = "from")]
    token_rows: usize,
    /// With --from: distinct paths that are kept with exact counts; of more, an even sample is.
    #[arg(long, value_name = "N", default_value_t = 1 << 20, requires = "from")]
    kept_paths: usize,
}

/// What to count and where to write it.
pub(super) struct Job<'a> {
    pub(super) from: &'a [PathBuf],
    pub(super) out: &'a Path,
    pub(super) resume: bool,
    pub(super) dry_run: bool,
    pub(super) sizes: CountingArgs,
}

/// What `counts.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// File of the sums, beside.
    sums: String,
    /// Models whose routes were counted, by the names under which they were recorded.
    models: Vec<String>,
    counts: CountsManifest,
}

/// A folder to count.
enum Source {
    Routes(TraceFolder),
    Sums(Box<Stored>, PathBuf),
}

/// Counts, with what they are of.
struct Counted {
    counts: RouteCounts,
    models: Vec<String>,
}

impl CountingArgs {
    /// Sets of experts get a sixteenth of the places that paths get, and one at least; tables by domain and token a fourth of the rows of those by token.
    fn plan(self) -> CountingPlan {
        let CountingArgs { token_rows, kept_paths: paths } = self;
        let sets = (paths / 16).max(1);
        CountingPlan { token_rows, paths, sets, low_rows: (token_rows / 4).max(1), ..CountingPlan::default() }
    }
}

/// Counts the stores and writes tables, sums and a report.
///
/// # Errors
/// If a folder holds neither routes nor sums, parts do not add up, or a file cannot be written.
pub(super) fn run(job: &Job<'_>, context: &Context) -> Result<(), Failure> {
    if job.sizes.token_rows == 0 || job.sizes.kept_paths == 0 {
        return Err(Failure::input("--token-rows and --kept-paths must be 1 or more"));
    }
    require_own(job.out, "a count of routes", &[COUNTS])?;
    let sources = job.from.iter().map(|folder| Source::open(folder)).collect::<Result<Vec<_>, _>>()?;
    require_each_once(job.from, &sources)?;
    if job.dry_run {
        return tell_memory(job, &sources, context);
    }
    let mut counted = begin(job)?;
    count(job, &sources, &mut counted, context)?;
    let chapters = counted_chapters(counted.counts.tables()?);
    finish(job.out, "report.html", || {
        counted.save(job.out)?;
        write_tables(job.out, tables(&chapters))?;
        Ok(moescope_report::write_html(&report(job, &counted, &chapters), &job.out.join("report.html"))?)
    })?;
    tell(job, &counted, &chapters, context);
    Ok(())
}

/// Refuses routes that are named twice, by the folders that hold them: the same folder, a copy, or sums that they are already in.
fn require_each_once(folders: &[PathBuf], sources: &[Source]) -> Result<(), Failure> {
    let mut known: BTreeMap<String, &Path> = BTreeMap::new();
    for (folder, source) in folders.iter().zip(sources) {
        for part in source.parts() {
            if let Some(before) = known.insert(part, folder) {
                return Err(Failure::input(format!(
                    "{} has routes a second time that {} has; give each once",
                    folder.display(),
                    before.display()
                )));
            }
        }
    }
    Ok(())
}

/// What an earlier call counted, if it is to be taken up, or nothing.
///
/// Sums that are there are never overwritten unasked: without `--resume` a folder with a count in it is
/// refused.
fn begin(job: &Job<'_>) -> Result<Counted, Failure> {
    let mut counted = Counted { counts: RouteCounts::new(job.sizes.plan())?, models: Vec::new() };
    if !job.out.join(COUNTS).exists() {
        return Ok(counted);
    }
    if !job.resume {
        return Err(Failure::input(format!(
            "{} holds a count of routes; add to it with --resume, or choose another folder as --out",
            job.out.display()
        )));
    }
    Source::open(job.out)?.add_to(&mut counted)?;
    Ok(counted)
}

/// Counts each source that was not counted before, and saves now and then.
fn count(job: &Job<'_>, sources: &[Source], counted: &mut Counted, context: &Context) -> Result<(), Failure> {
    let (progress, pool, all) = (context.progress(), context.pool()?, sources.len());
    let mut saved = Instant::now();
    let known = counted.counts.parts().to_vec();
    for (number, (source, folder)) in sources.iter().zip(job.from).enumerate() {
        if context.interrupt().flag().load(Ordering::Relaxed) {
            counted.save(job.out)?;
            let message = format!("interrupted after {number} of {all} folders; go on with --resume");
            return Err(Failure::interrupted(message, context.interrupt().exit()));
        }
        if source.parts().iter().all(|part| known.contains(part)) {
            continue;
        }
        progress.advance(number as f64 / all as f64, None, &format!("counting {}", folder.display()));
        pool.install(|| source.add_to(counted)).map_err(|mut failure| {
            failure.message = format!("{}: {}", folder.display(), failure.message);
            failure
        })?;
        if saved.elapsed() > SAVE_AFTER {
            counted.save(job.out)?;
            saved = Instant::now();
        }
    }
    progress.clear();
    Ok(())
}

impl Source {
    fn open(folder: &Path) -> Result<Source, Failure> {
        let counts = folder.join(COUNTS);
        if counts.exists() {
            let text = moescope_host::read_text(&counts)?;
            let stored: Stored = serde_json::from_str(&text).map_err(|error| {
                Failure::input(format!("{} is no count of routes ({error}); count again", counts.display()))
            })?;
            let sums = folder.join(&stored.sums);
            return Ok(Source::Sums(Box::new(stored), sums));
        }
        if !folder.join("manifest.json").exists() {
            return Err(Failure::input(format!(
                "{} holds no recorded routes and no count of them: give folders that `moescope routing` wrote",
                folder.display()
            )));
        }
        Ok(Source::Routes(TraceFolder::open(folder)?))
    }

    /// Names of what it holds: a store is known by its tokens.
    fn parts(&self) -> Vec<String> {
        match self {
            Source::Routes(folder) => vec![folder.manifest().token_hash.clone()],
            Source::Sums(stored, _) => stored.counts.parts.clone(),
        }
    }

    /// Experts and experts of each token, layer by layer.
    fn layers(&self) -> Vec<(usize, usize)> {
        let of = |manifest: &Manifest| manifest.layers.iter().map(|l| (l.experts, l.per_token)).collect();
        match self {
            Source::Routes(folder) => of(folder.manifest()),
            Source::Sums(stored, _) => stored.counts.layers.iter().map(|l| (l.1, l.2)).collect(),
        }
    }

    /// Models that its routes are of.
    fn models(&self) -> Vec<String> {
        match self {
            Source::Routes(folder) => vec![folder.manifest().model_hash.clone()],
            Source::Sums(stored, _) => stored.models.clone(),
        }
    }

    fn add_to(&self, counted: &mut Counted) -> Result<(), Failure> {
        for model in self.models() {
            if let Some(other) = counted.models.iter().find(|other| differ(other, &model)) {
                let (one, other) = (name_of(&model), name_of(other));
                let what = if one == other { "another model of that name" } else { other };
                return Err(Failure::input(format!(
                    "its routes are of {one}, those counted so far of {what}: count one model at a time"
                )));
            }
        }
        match self {
            Source::Routes(folder) => {
                counted.counts.add(&folder.routing()?, &folder.manifest().token_hash)?;
            }
            Source::Sums(stored, sums) => {
                let mut filling = counted.counts.begin(&stored.counts)?;
                read_sums(sums, |group| filling.take(&group))?;
                filling.finish()?;
            }
        }
        counted.models.extend(self.models());
        counted.models.sort_unstable();
        counted.models.dedup();
        Ok(())
    }
}

/// Between the name of a model and its hash.
const AT: &str = " @";

/// A model as the manifest of its routes has it: the name that it was called by, which titles tell, and the hash that counts.
pub(super) fn named_hash(name: &str, hash: &str) -> String {
    format!("{name}{AT}{hash}")
}

fn name_of(model: &str) -> &str {
    model.rsplit_once(AT).map_or(model, |(name, _)| name)
}

/// Whether two are known to be of unlike models. Records of before had no hash, of which nothing is known.
fn differ(one: &str, other: &str) -> bool {
    matches!((one.rsplit_once(AT), other.rsplit_once(AT)), (Some((_, one)), Some((_, other))) if one != other)
}

impl Counted {
    /// Names of the models, each once.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.models.iter().map(|model| name_of(model)).collect();
        names.dedup();
        names
    }

    /// Writes the sums, then what says where they are; earlier sums go last, so that there always are some.
    fn save(&self, out: &Path) -> Result<(), Failure> {
        moescope_host::make_folder(out)?;
        let counts = self.counts.manifest();
        let sums = format!("counts-{}.parquet", counts.parts.len());
        write_sums(&out.join(&sums), self.counts.groups())?;
        let earlier = moescope_host::read_text(&out.join(COUNTS)).ok();
        let earlier = earlier.and_then(|text| serde_json::from_str::<Stored>(&text).ok());
        let stored = Stored { sums, models: self.models.clone(), counts };
        let text = serde_json::to_string_pretty(&stored).expect("counts are plain data");
        moescope_host::replace(&out.join(COUNTS), |file| writeln!(file, "{text}"))?;
        if let Some(earlier) = earlier.filter(|earlier| earlier.sums != stored.sums) {
            // What is left over harms nobody: the sums that count are named in the file just written.
            std::fs::remove_file(out.join(earlier.sums)).ok();
        }
        Ok(())
    }
}

fn tell_memory(job: &Job<'_>, sources: &[Source], context: &Context) -> Result<(), Failure> {
    let layers = sources.first().map(Source::layers).unwrap_or_default();
    let bytes = job.sizes.plan().bytes(&layers);
    if context.json() {
        context.print_json(&serde_json::json!({ "folders": sources.len(), "bytes_counts_at_most": bytes }));
    } else {
        say!(
            "counting {}: at most {} MiB for what is counted, and the largest single store",
            counted_of(sources.len(), "folder", "folders"),
            bytes.div_ceil(1 << 20)
        );
    }
    Ok(())
}

/// Says what was counted.
fn tell(job: &Job<'_>, counted: &Counted, chapters: &[Chapter], context: &Context) {
    let (counts, report) = (&counted.counts, job.out.join("report.html"));
    if context.json() {
        context.print_json(&serde_json::json!({
            "tokens": counts.tokens(),
            "documents": counts.documents(),
            "layers": counts.layers().len(),
            "parts": counts.parts().len(),
            "models": counted.models,
            "tables": tables(chapters).map(Table::name).collect::<Vec<_>>(),
            "findings": findings(chapters).collect::<Vec<_>>(),
            "report": report,
        }));
        return;
    }
    say!(
        "{} tokens of {} in {}, {}: {}",
        counts.tokens(),
        counted_of(counts.documents(), "document", "documents"),
        counted_of(counts.parts().len(), "part", "parts"),
        counted_of(counts.layers().len(), "routed layer", "routed layers"),
        report.display()
    );
    findings(chapters).for_each(|finding| say!("  {finding}"));
    if counted.names().len() > 1 {
        say!("the routes were recorded under different names of models: {}", counted.names().join(", "));
    }
}

fn report(job: &Job<'_>, counted: &Counted, chapters: &[Chapter]) -> Report {
    let counts = &counted.counts;
    let domains = format!("Domains: {}.", counts.domain_names().join(", "));
    let command = format!(
        "moescope routing --from FOLDER... --token-rows {} --kept-paths {} --out {}",
        job.sizes.token_rows,
        job.sizes.kept_paths,
        word(job.out.display())
    );
    Report {
        title: format!("Routes of {}", counted.names().join(", ")),
        subtitle: format!(
            "{} tokens of {} in {} through {}",
            counts.tokens(),
            counted_of(counts.documents(), "document", "documents"),
            counted_of(counts.parts().len(), "part", "parts"),
            counted_of(counts.layers().len(), "routed layer", "routed layers")
        ),
        lead: findings(chapters).map(|finding| format!("{finding}.")).chain([domains]).collect(),
        answers: None,
        sections: chapters.iter().map(section).collect(),
        reproduce: vec![
            ("Command".into(), command),
            ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION"))),
        ],
        notes: vec!["Counted in one pass: nulls are formulas, and there are no tests by shuffles.".into()],
    }
}

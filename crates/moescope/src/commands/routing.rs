//! `moescope routing`: where the tokens of a corpus go, and what that tells.
//!
//! The routes are recorded once and analysed afterwards from memory: all analyses are of the same pass over the same
//! tokens. The recorded files hold enough to repeat them elsewhere.

use std::iter::repeat_n;
use std::path::{Path, PathBuf};

use clap::Args;
use moescope_analysis::routing::summary_tables;
use moescope_base::{FeedForwardShape, Figure, FigureKind, Seed, SubjectShape, Table, Tokens};
use moescope_corpus::{Corpus, TokenClass, Tokenizer};
use moescope_model::{ModelSubject, Work};
use moescope_report::{Report, Section};
use moescope_trace::{RoutingTrace, TokenTable, record_routing, routing_points, write_trace};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::memory::{Intent, MemoryArgs};
use crate::out_folder::require_own;
use crate::say;

/// Sequences in one forward pass where all weights are in memory. Results do not depend on it.
const BATCH: usize = 16;

/// Record where the tokens of a corpus go, and analyse it.
///
/// Every sub-folder of the text folder is one domain. Writes the routes (tokens.parquet, routing.parquet), one table for
/// each analysis, and report.html.
#[derive(Debug, Args)]
pub struct RoutingArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision], with routed layers.
    model: String,
    /// Folder with one sub-folder of text for each domain.
    #[arg(long, value_name = "DIR")]
    text: PathBuf,
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
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Runs the command.
///
/// # Errors
/// If model or text are wrong, the model has no routed layer, or a file cannot be written.
pub fn run(args: &RoutingArgs, context: &Context) -> Result<(), Failure> {
    if args.positions < 2 || args.permutations == 0 {
        return Err(Failure::input("--positions must be 2 or more, --permutations 1 or more"));
    }
    require_own(&args.out, "a record of routes", &["routing.parquet"])?;
    let checkpoint = Checkpoint::find(&args.model, context)?;
    let description = moescope_model::describe(checkpoint.path())?;
    let shape = description.subject_shape();
    let tokenizer = checkpoint.tokenizer()?;
    let positions = args.positions.min(description.max_positions);
    if shape.routed_layers().is_empty() {
        let place = &args.model;
        return Err(Failure::input(format!(
            "{place} is dense: it has no routed layer, so there are no routes to record"
        )));
    }
    let corpus = Corpus::from_folder(&args.text)?;
    let windows = windows(&corpus, &tokenizer, positions, args.tokens)?;
    let record = routing_points(&shape);
    let kept = kept(&shape, windows.len() * positions);
    let threads = context.threads();
    let work = |batch: usize| Work { batch, positions, record: &record, gradients: false, kept, threads };
    let sequences = args.memory.sequences(checkpoint.path(), windows.len(), BATCH, work)?;
    if args.memory.dry_run() {
        let passes = windows.len().div_ceil(sequences);
        let intent = Intent { work: work(sequences), passes, disk: kept };
        return args.memory.tell(checkpoint.path(), &intent, context);
    }
    let mut subject = ModelSubject::new(args.memory.open(checkpoint.path(), &work(sequences), context)?);
    let table = |chunk: &[Window]| token_table(chunk, &corpus, &tokenizer, positions);
    let batches: Vec<Batch> = windows.chunks(sequences).map(table).collect::<Result<_, Failure>>()?;
    let pool = context.pool()?;
    let progress = context.progress();
    progress.note("recording routes");
    let trace = pool.install(|| record_routing(&mut subject, watched(batches, &progress)))?;
    progress.clear();
    drop(subject);
    progress.note("analysing");
    let tables = pool.install(|| summary_tables(&trace, Seed(args.seed), args.permutations))?;
    write(args, &trace, &tables)?;
    if context.json() {
        context.print_json(&serde_json::json!({
            "tokens": trace.tokens().len(),
            "layers": trace.layers().len(),
            "tables": tables.iter().map(Table::name).collect::<Vec<_>>(),
            "report": args.out.join("report.html"),
        }));
    } else {
        say!(
            "{} tokens, {} routed layers: {}",
            trace.tokens().len(),
            trace.layers().len(),
            args.out.join("report.html").display()
        );
    }
    Ok(())
}

/// Bytes of a record of routes of so many tokens, an upper estimate: what is known of each, and of each in every routed layer the
/// choices, their weights, entropy and margin.
fn kept(shape: &SubjectShape, tokens: usize) -> u64 {
    let layer = |shape: &FeedForwardShape| match shape {
        FeedForwardShape::Routed { per_token, .. } => 8 * (per_token + 1),
        FeedForwardShape::Dense { .. } => 0,
    };
    let layers: usize = shape.feed_forward.iter().map(layer).sum();
    2 * tokens as u64 * (64 + layers) as u64
}

/// The input of one forward pass, and what is known about its tokens in the same order.
type Batch = (Tokens, TokenTable);

/// Consecutive tokens of one document, exactly as many as were asked for.
struct Window {
    domain: u16,
    document: u32,
    ids: Vec<u32>,
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

/// The corpus as windows; a window is of one document, and what does not fill one is left out.
///
/// Windows are taken from the beginning of each domain until `limit` tokens are reached, so a document at the end of
/// a large domain may not be seen at all.
///
/// # Errors
/// If a domain has no document as long as a window, or text cannot be encoded.
fn windows(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    positions: usize,
    limit: usize,
) -> Result<Vec<Window>, Failure> {
    let mut windows = Vec::new();
    // Numbered through all domains: documents are the independent units, so no two may share a number.
    let mut document = 0;
    for (domain, source) in corpus.domains().iter().enumerate() {
        let before = windows.len();
        for text in &source.documents {
            let ids = tokenizer.encode(&text.text)?;
            let window = |ids: &[u32]| Window { domain: domain as u16, document, ids: ids.to_vec() };
            windows.extend(ids.chunks_exact(positions).map(window));
            document += 1;
        }
        windows.truncate(before + (limit / positions).max(1));
        if windows.len() == before {
            let name = &source.name;
            return Err(Failure::input(format!(
                "domain `{name}` has no document of {positions} tokens; add longer text, or ask for fewer with --positions"
            )));
        }
    }
    Ok(windows)
}

/// Tokens of the windows with their facts: row `window × positions + position`. After the last token of a window
/// stands the end token as the next one.
fn token_table(
    windows: &[Window],
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Batch, Failure> {
    let ids: Vec<u32> = windows.iter().flat_map(|window| &window.ids).copied().collect();
    let tokens = Tokens::new(ids, windows.len(), positions)?;
    let table = TokenTable {
        ids: tokens.ids().to_vec(),
        next_ids: tokens.next_ids(tokenizer.end().unwrap_or(0)),
        domains: windows.iter().flat_map(|window| repeat_n(window.domain, positions)).collect(),
        documents: windows.iter().flat_map(|window| repeat_n(window.document, positions)).collect(),
        positions: (0..tokens.len()).map(|token| (token % positions) as u32).collect(),
        classes: tokens.ids().iter().map(|id| tokenizer.class(*id).number() as u16).collect(),
        domain_names: corpus.domain_names(),
        class_names: TokenClass::ALL.iter().map(|class| class.name().to_owned()).collect(),
    };
    Ok((tokens, table))
}

/// Writes the record, the tables and the report; the report comes last, so that a folder with a report is whole.
fn write(args: &RoutingArgs, trace: &RoutingTrace, tables: &[Table]) -> Result<(), Failure> {
    write_trace(&args.out, trace, None, &args.model, env!("CARGO_PKG_VERSION"))?;
    let folder = args.out.join("tables");
    std::fs::create_dir_all(&folder).map_err(|error| {
        let advice = moescope_host::advice(&error);
        Failure::input(format!("cannot create {}: {error}{advice}", folder.display()))
    })?;
    for table in tables {
        moescope_report::write_parquet(table, &folder.join(format!("{}.parquet", table.name())))?;
    }
    moescope_report::write_html(&report(args, trace, tables), &args.out.join("report.html"))?;
    Ok(())
}

/// The report: one section for each table, with the method that the analysis states. It has no answers, since one
/// model answers none of the five questions.
fn report(args: &RoutingArgs, trace: &RoutingTrace, tables: &[Table]) -> Report {
    let section = |table: &Table| Section {
        id: table.name().to_owned(),
        heading: table.title().to_owned(),
        question: None,
        prose: Vec::new(),
        figures: figure(table).into_iter().collect(),
        tables: vec![table.clone()],
        method: vec![table.method().to_owned()],
        limits: Vec::new(),
    };
    Report {
        title: format!("Routes of {}", name(Path::new(&args.model))),
        subtitle: format!("{} tokens through {} routed layers", trace.tokens().len(), trace.layers().len()),
        lead: vec![format!("Domains: {}.", trace.tokens().domain_names.join(", "))],
        answers: None,
        sections: tables.iter().map(section).collect(),
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
        args.model,
        args.text.display(),
        args.out.display(),
        args.positions,
        args.tokens,
        args.permutations,
        args.seed
    );
    vec![("Command".into(), command), ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION")))]
}

/// The one picture that a table suggests by its columns: a heat map of layer by expert, or an estimate by layer.
fn figure(table: &Table) -> Option<Figure> {
    let has = |name: &str| table.column(name).is_some();
    if has("partner") {
        return None; // A pair of experts and a layer are three axes.
    }
    let estimate = table.columns().iter().find(|column| {
        matches!(column.role, moescope_base::ColumnRole::Estimate) && column.data.number(0).is_some()
    })?;
    let value = estimate.name.clone();
    let kind = if has("layer") && has("expert") {
        FigureKind::Heatmap { x: "expert".into(), y: "layer".into(), value, center: None }
    } else if has("layer") {
        let series = ["label", "unit"].into_iter().find(|name| has(name)).map(str::to_owned);
        FigureKind::Bars { x: "layer".into(), y: value, series }
    } else {
        return None;
    };
    Some(Figure {
        id: format!("{}_figure", table.name()),
        title: table.title().to_owned(),
        caption: estimate.meaning.clone(),
        table: table.name().to_owned(),
        kind,
    })
}

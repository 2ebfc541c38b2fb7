//! `moescope bench`: how fast models train and run on this machine.
//!
//! Two figures are told apart: tokens per second, which is what a user waits for, and tokens per CPU-second, which
//! does not change when other programs take their share of the machine. Speed alone says little about an
//! implementation; beside it stands what the same core reaches on the largest product of the same model, measured in
//! the same run.

mod laps;
mod listening;
mod profile;

use clap::{Args, ValueEnum};
use moescope_engine::{Cpu, measure};
use moescope_model::{Description, FeedForward, Granularity, Router, Variation};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::say;
use laps::{Lap, laps};
use profile::Share;

/// Measure how fast models train or run here, on random tokens.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A training step (forward, backward, AdamW), or the forward pass alone.
    #[arg(value_enum)]
    what: What,
    /// Feed-forward layer.
    #[arg(long, value_enum, default_value_t = Ffn::Dense)]
    ffn: Ffn,
    /// Granularity in the Warsaw definition: d_ff over the width of one expert.
    #[arg(long, value_name = "G", default_value_t = 1)]
    granularity: usize,
    /// Total over active feed-forward width.
    #[arg(long, value_name = "E", default_value_t = 8)]
    expansion: usize,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 256)]
    d_model: usize,
    /// Blocks.
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 8)]
    heads: usize,
    /// Active feed-forward width.
    #[arg(long, default_value_t = 1024)]
    d_ff: usize,
    /// Entries of the vocabulary.
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 256)]
    seq: usize,
    /// Sequences in a step.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Make cheap values again on the way back instead of keeping them (train alone).
    #[arg(long)]
    recompute: bool,
    /// Steps that are counted.
    #[arg(long, value_name = "N", default_value_t = 10)]
    reps: u64,
    /// Then run as many steps again with a clock around every kernel, and say where the time goes.
    #[arg(long)]
    profile: bool,
    /// Also measure by how much recording all residual streams and router values lengthens the pass (forward alone).
    #[arg(long)]
    record: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Train,
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Ffn {
    Dense,
    Moe,
}

/// The document that the command prints.
///
/// Medians are over the counted steps; the best step is the one least disturbed. Neither shows how fast a long run is
/// on a machine that grows hot.
#[derive(Debug, Serialize)]
struct BenchResult {
    what: What,
    ffn: Ffn,
    granularity: usize,
    expansion: usize,
    threads: usize,
    reps: u64,
    /// Sequences × tokens in each.
    tokens_per_step: usize,
    /// All parameters, every expert included.
    parameters_total: u64,
    /// Parameters that one token passes through.
    parameters_active: u64,
    /// By the clock, all threads together.
    tokens_per_second_median: f64,
    tokens_per_second_best: f64,
    /// By CPU time of the process, which all threads add to.
    tokens_per_core_second_median: f64,
    tokens_per_core_second_best: f64,
    /// Arithmetic of the step by the exact counts, over CPU time, in GFLOP/s. A training step counts as three forward
    /// passes; what is computed beyond the counts is not credited.
    gflops_per_core_median: f64,
    /// What one core reaches on the model's own largest product, in the same run.
    gemm_gflops_per_core: f64,
    /// The one over the other, 0 to about 1: how much of the time goes into useful products.
    gemm_fraction: f64,
    /// Largest resident memory of the process, where the system tells; the corpus of a real run is not in it.
    peak_memory_bytes: Option<u64>,
    /// Where the time of a step goes, the longest first; with `--profile` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Vec<Share>>,
    /// By how much recording all residual streams and router values lengthens a forward pass, as a share of it; with `--record`
    /// alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    record_overhead: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// If the sizes make no model.
pub fn run(args: &BenchArgs, context: &Context) -> Result<(), Failure> {
    require_sizes(args)?;
    if args.record && args.what == What::Train {
        return Err(Failure::input("--record measures the forward pass; wanted `bench forward --record`"));
    }
    if args.recompute && args.what == What::Forward {
        return Err(Failure::input(
            "--recompute frees values for the way back; wanted `bench train --recompute`",
        ));
    }
    let description = description(args)?;
    require_memory(args, &description)?;
    let pool = context.pool()?;
    let laps = pool.install(|| laps(&Cpu, args, &description, args.reps))?;
    let mut result = summarise(args, &description, &laps, context.threads());
    if args.profile {
        let peak = result.gemm_gflops_per_core * context.threads() as f64;
        result.profile = Some(pool.install(|| profile::shares(args, &description, peak))?);
    }
    if args.record {
        result.record_overhead = Some(pool.install(|| listening::overhead(args, &description))?);
    }
    if context.json() {
        context.print_json(&result);
    } else {
        print(&result);
    }
    Ok(())
}

/// Refuses sizes that no machine of today could hold, before memory is asked for.
fn require_sizes(args: &BenchArgs) -> Result<(), Failure> {
    let sizes = [
        ("--d-model", args.d_model, 1, 1 << 16),
        ("--layers", args.layers, 1, 1 << 10),
        ("--d-ff", args.d_ff, 1, 1 << 20),
        ("--vocab", args.vocab, 2, 1 << 20),
        ("--expansion", args.expansion, 1, 1 << 12),
        ("--seq", args.seq, 2, 1 << 17),
        ("--batch", args.batch, 1, 1 << 16),
        ("--reps", args.reps.try_into().unwrap_or(usize::MAX), 1, 1 << 30),
    ];
    match sizes.into_iter().find(|(_, found, least, most)| !(*least..=*most).contains(found)) {
        Some((name, found, least, most)) => {
            Err(Failure::input(format!("{name} {found}; wanted {least} or more, and at most {most}")))
        }
        None => Ok(()),
    }
}

/// Refuses a forward pass that this machine has not the memory for: parameters, the attention patterns of a block, and the
/// logits. Training refuses its own plans.
fn require_memory(args: &BenchArgs, description: &Description) -> Result<(), Failure> {
    let parameters = description.counts().parameters_total as f64;
    let tokens = args.batch as f64 * args.seq as f64;
    let numbers = parameters + tokens * (args.vocab as f64 + (args.heads * args.seq) as f64);
    let what =
        format!("a forward pass of {parameters:.2e} parameters over {} × {} tokens", args.batch, args.seq);
    Ok(moescope_host::require_memory(&what, 4.0 * numbers, "make the model, --batch or --seq smaller")?)
}

/// The model that the arguments describe. Fixed choices are those of a study, so that speeds carry over.
fn description(args: &BenchArgs) -> Result<Description, Failure> {
    if args.heads == 0 || !args.d_model.is_multiple_of(2 * args.heads) {
        let (width, heads) = (args.d_model, args.heads);
        return Err(Failure::input(format!(
            "--d-model {width} with --heads {heads}; want a multiple of twice the heads"
        )));
    }
    let feed_forward = match args.ffn {
        Ffn::Dense => FeedForward::Dense { width: args.d_ff },
        Ffn::Moe => {
            let sizes = Granularity::warsaw(args.d_ff, args.expansion, args.granularity)?;
            FeedForward::Routed(sizes.routed(Router::learned(false)))
        }
    };
    let description = Description {
        vocab: args.vocab,
        d_model: args.d_model,
        heads: args.heads,
        key_value_heads: args.heads,
        head_dim: args.d_model / args.heads,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: args.seq,
        tied_embeddings: false,
        qk_norm: true,
        feed_forward: vec![feed_forward; args.layers],
        variation: Variation::default(),
    };
    description.check()?;
    Ok(description)
}

/// Turns laps into rates, and measures the product that they are compared with.
fn summarise(args: &BenchArgs, description: &Description, laps: &[Lap], threads: usize) -> BenchResult {
    // Before the product below allocates memory of its own.
    let peak_memory_bytes = peak_memory();
    let tokens = args.batch * args.seq;
    let counts = description.counts();
    let wall: Vec<f64> = laps.iter().map(|lap| lap.wall).collect();
    let cpu: Vec<f64> = laps.iter().map(|lap| lap.cpu).collect();
    let rate = |seconds: f64| tokens as f64 / seconds;
    let passes = if args.what == What::Train { 3.0 } else { 1.0 };
    let gflops = passes * counts.flops_per_token as f64 * rate(median(&cpu)) / 1e9;
    // The model's largest product is the unembedding or the feed-forward layer, whichever is wider.
    let one_core =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one more thread can be started");
    let gemm =
        one_core.install(|| measure::gemm_rate(tokens, args.d_model, args.vocab.max(args.d_ff), 15).best);
    BenchResult {
        what: args.what,
        ffn: args.ffn,
        granularity: args.granularity,
        expansion: args.expansion,
        threads,
        reps: args.reps,
        tokens_per_step: tokens,
        parameters_total: counts.parameters_total,
        parameters_active: counts.parameters_active,
        tokens_per_second_median: rate(median(&wall)),
        tokens_per_second_best: rate(least(&wall)),
        tokens_per_core_second_median: rate(median(&cpu)),
        tokens_per_core_second_best: rate(least(&cpu)),
        gflops_per_core_median: gflops,
        gemm_gflops_per_core: gemm,
        gemm_fraction: gflops / gemm,
        peak_memory_bytes,
        profile: None,
        record_overhead: None,
    }
}

/// Median; the mean of the two middle values for an even number of them.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// Smallest value: the step that was disturbed least.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Largest resident memory of this process so far, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The result for people, in three lines, and a line for each kernel if they were timed.
fn print(result: &BenchResult) {
    say!(
        "{:.0} tokens/s (best {:.0}), {:.0} tokens per core-second (best {:.0}), {} threads",
        result.tokens_per_second_median,
        result.tokens_per_second_best,
        result.tokens_per_core_second_median,
        result.tokens_per_core_second_best,
        result.threads
    );
    say!(
        "{:.1} GFLOP/s per core, {:.0} % of the {:.1} that one core reaches on the largest product",
        result.gflops_per_core_median,
        100.0 * result.gemm_fraction,
        result.gemm_gflops_per_core
    );
    if let Some(bytes) = result.peak_memory_bytes {
        say!("peak memory {} MiB", bytes >> 20);
    }
    if let Some(overhead) = result.record_overhead {
        say!("recording residual streams and router values takes {:+.1} % of a pass", 100.0 * overhead);
    }
    if let Some(shares) = &result.profile {
        profile::print(shares);
    }
}

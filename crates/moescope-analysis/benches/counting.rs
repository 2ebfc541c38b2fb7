//! How many routed slots one core counts in a second, and in how much memory.
//!
//! `cargo bench -p moescope-analysis --bench counting` counts routes that follow an uneven load, for several numbers of experts and slots, with
//! everything that `moescope routing --from` counts, on one thread. One slot is one expert of one token in one layer.
//!
//! `… --bench counting -- TOKENS LAYERS EXPERTS PER_TOKEN` counts one long text instead, in parts that are drawn, counted and let go, as stores are, and
//! tells at the end how much memory the program ever held and how long the tables took.

use std::time::Instant;

use cpu_time::ProcessTime;
use moescope_analysis::counting::{CountingPlan, RouteCounts};

mod planted;

/// Tokens of a trace, windows of 128 and documents of 512.
const TOKENS: usize = 200_000;
const REPETITIONS: usize = 3;

fn main() {
    // The first arguments are cargo's own.
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    match sizes[..] {
        [tokens, layers, experts, per_token] => long(tokens, layers, experts, per_token),
        _ => short(),
    }
}

fn short() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be had");
    println!("layers experts per token   million slots per core-second (best of {REPETITIONS})");
    for (layers, experts, per_token) in [(4, 8, 1), (4, 8, 2), (4, 64, 8), (16, 64, 8), (4, 256, 8)] {
        let vocabulary = if layers == 4 { 4096 } else { 50_304 };
        let trace = planted::trace(0, TOKENS, vocabulary, layers, experts, per_token);
        let best = (0..REPETITIONS)
            .map(|_| {
                let mut counts = RouteCounts::new(CountingPlan::default()).expect("the plan is one");
                let start = ProcessTime::now();
                pool.install(|| counts.add(&trace, "bench")).expect("the trace is the first");
                assert_eq!(counts.tokens(), TOKENS as u64);
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        let slots = (TOKENS * layers * per_token) as f64;
        println!("{layers:6} {experts:7} {per_token:9}   {:.1}", slots / best / 1e6);
    }
}

/// One text of many parts; only the time of counting counts.
fn long(tokens: usize, layers: usize, experts: usize, per_token: usize) {
    let parts = tokens.div_ceil(TOKENS);
    let mut counts = RouteCounts::new(CountingPlan::default()).expect("the plan is one");
    let (started, mut core_seconds) = (Instant::now(), 0.0);
    for part in 0..parts {
        let trace = planted::trace(part as u64, TOKENS, 50_304, layers, experts, per_token);
        let start = ProcessTime::now();
        counts.add(&trace, &format!("part {part}")).expect("each part is new");
        core_seconds += start.elapsed().as_secs_f64();
        if (part + 1) % parts.div_ceil(10) == 0 {
            let (done, spent) = (counts.tokens() / 1_000_000, started.elapsed().as_secs());
            println!("{done} million tokens after {spent} s, {:.0} MB at most", peak_memory());
        }
    }
    let slots = counts.tokens() as f64 * (layers * per_token) as f64;
    println!(
        "{} tokens, {layers} layers, {experts} experts, {per_token} for each token: {slots:.2e} slots, {:.1} million per core-second",
        counts.tokens(),
        slots / core_seconds / 1e6
    );
    let start = Instant::now();
    let tables = counts.tables().expect("what was counted makes tables");
    println!(
        "{} tables in {:.1} s, {:.0} MB at most",
        tables.len(),
        start.elapsed().as_secs_f64(),
        peak_memory()
    );
    for table in tables.iter().filter(|table| table.name().contains("paths")) {
        for column in table.columns() {
            println!("{} {}: {}", table.name(), column.name, column.data.label(table.rows() - 1));
        }
    }
}

/// Most memory that the program ever held, in megabytes; NaN where the system does not tell.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kibibytes.map_or(f64::NAN, |kibibytes| kibibytes * 1024.0 / 1e6)
}

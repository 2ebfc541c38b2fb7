//! How many routed slots one core counts in a second.
//!
//! `cargo bench -p moescope-analysis --bench counting` counts routes that follow an uneven load, for several numbers of experts and slots, with
//! everything that `moescope routing --from` counts, on one thread. One slot is one expert of one token in one layer.

use cpu_time::ProcessTime;
use moescope_analysis::counting::{CountingPlan, RouteCounts};

mod planted;

/// Tokens of a trace, windows of 128 and documents of 512.
const TOKENS: usize = 200_000;
const REPETITIONS: usize = 3;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be had");
    println!("layers experts per token   million slots per core-second (best of {REPETITIONS})");
    for (layers, experts, per_token) in [(4, 8, 1), (4, 8, 2), (4, 64, 8), (16, 64, 8), (4, 256, 8)] {
        let vocabulary = if layers == 4 { 4096 } else { 50_304 };
        let trace = planted::trace(TOKENS, vocabulary, layers, experts, per_token);
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

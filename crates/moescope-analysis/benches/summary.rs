//! How long the analyses of one large trace take, shuffles included.
//!
//! `cargo bench -p moescope-analysis --bench summary -- [TOKENS] [SHUFFLES]` goes through a trace of four layers of 16 experts, two for each
//! token, on all threads that there are, and prints the seconds of each analysis and of all that `moescope routing` makes of a trace.

use std::time::Instant;

use cpu_time::ProcessTime;
use moescope_analysis::AnalysisError;
use moescope_analysis::paths::{PathKind, cross_layer_information, effective_number, path_information};
use moescope_analysis::route_report::chapters;
use moescope_analysis::routing::{Permutations, coactivation, locality};
use moescope_analysis::specialisation::{Exchange, Labels, domain_given_token, label_specialisation};
use moescope_base::Seed;

mod planted;

type Analysis<'a> = (&'a str, Box<dyn Fn() -> Result<(), AnalysisError> + 'a>);

fn main() -> Result<(), AnalysisError> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (tokens, shuffles) =
        (numbers.first().copied().unwrap_or(1_000_000), numbers.get(1).copied().unwrap_or(99));
    let trace = planted::trace(0, tokens, 4096, 4, 16, 2);
    let (table, shuffled) = (trace.tokens(), Permutations::new(shuffles, Seed(1)));
    let token = Labels::token(table);
    let analyses: Vec<Analysis<'_>> = vec![
        ("coactivation", Box::new(|| coactivation(&trace, shuffled).map(drop))),
        ("locality", Box::new(|| locality(&trace, shuffled).map(drop))),
        ("token", Box::new(|| label_specialisation(&trace, &token, shuffled).map(drop))),
        ("class", Box::new(|| label_specialisation(&trace, &Labels::class(table), shuffled).map(drop))),
        ("domain given token", Box::new(|| domain_given_token(&trace, shuffled).map(drop))),
        ("number of paths", Box::new(|| effective_number(&trace, PathKind::Sets, shuffled).map(drop))),
        (
            "paths and token",
            Box::new(|| path_information(&trace, &token, Exchange::Tokens, shuffled).map(drop)),
        ),
        ("cross layer", Box::new(|| cross_layer_information(&trace, shuffled).map(drop))),
        ("all", Box::new(|| chapters(&trace, Seed(1), shuffles, &[]).map(drop))),
    ];
    println!("{tokens} tokens, {shuffles} shuffles: seconds, and seconds of all cores together");
    for (name, analysis) in analyses {
        let (start, spent) = (Instant::now(), ProcessTime::now());
        analysis()?;
        println!("{name:20} {:8.2} {:8.2}", start.elapsed().as_secs_f64(), spent.elapsed().as_secs_f64());
    }
    Ok(())
}

//! Automation of the moescope repository: `cargo run -p xtask -- SUBCOMMAND`.

mod corpus;
mod curves;
mod tidy;
mod twin;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (subcommand, rest) = match arguments.split_first() {
        Some((subcommand, rest)) => (subcommand.as_str(), rest),
        None => ("", [].as_slice()),
    };
    match subcommand {
        "corpus" => corpus::run(rest),
        "curves" => curves::run(rest),
        "tidy" => tidy::run(rest),
        "twin" => twin::run(rest),
        other => bail!("subcommand `{other}` is not known; wanted: corpus, curves, tidy, twin"),
    }
}

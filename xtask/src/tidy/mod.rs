//! Keeps the house: checks on the whole repository that no compiler makes.
//!
//! Each check has a file of its own: a function from what lies in the [`Repository`] to a [`Verdict`]. The checks read
//! text and tokens and never compile anything, so that they are cheap enough to run before every commit.

mod crate_front;
mod documentation;
mod file_budget;
mod file_names;
mod finding;
mod function_budget;
mod imports;
mod leftovers;
mod links;
mod named_tests;
mod private_places;
mod repository;
mod rust_source;
mod unsafe_code;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use finding::Verdict;
use repository::Repository;

/// Runs all checks, prints one line with figures for each, and fails when there is a finding.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`tidy` takes no arguments, found `{}`", arguments.join(" "));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let repository = Repository::read(root)?;
    let verdicts = [
        imports::check(&imports::packages(root)?),
        file_budget::check(&repository),
        function_budget::check(&repository),
        documentation::check(&repository),
        unsafe_code::check(&repository),
        leftovers::check(&repository),
        file_names::check(&repository),
        private_places::check(&repository),
        crate_front::check(&repository),
        links::check(&repository),
        named_tests::check(&repository),
    ];
    report(&repository, &verdicts)
}

fn report(repository: &Repository, verdicts: &[Verdict]) -> Result<()> {
    for verdict in verdicts {
        let word = if verdict.findings.is_empty() { "ok" } else { "FOUND" };
        println!("{word:5}  {:18} {}", verdict.check, verdict.figures);
    }
    let mut count = 0;
    for finding in repository.unreadable.iter().chain(verdicts.iter().flat_map(|v| &v.findings)) {
        println!("{finding}");
        count += 1;
    }
    match count {
        0 => Ok(()),
        1 => bail!("1 finding; CONTRIBUTING.md says what each check is for"),
        _ => bail!("{count} findings; CONTRIBUTING.md says what each check is for"),
    }
}

//! Builds the corpus shipped with `moescope-corpus` from packages that anyone can fetch.
//!
//! Each domain has an extractor of its own in this folder. The packages are pinned by version and
//! checksum, so the same text comes out every time.

mod arithmetic;
mod c_code;
mod clean;
mod html;
mod jargon;
mod novels;
mod packages;
mod polish;
mod r_data;
mod rust_code;
mod scripture;
mod sources;
mod speeches;
mod sqlite_docs;
mod sword;
mod thin;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use moescope_corpus::{Domain, pack};

/// Bytes of text that each domain is thinned to.
const BUDGET: usize = 520_000;
/// Bytes that the shipped files may have together.
const LARGEST: usize = 1_500_000;

/// Fetches, extracts and writes the shipped corpus; the one argument is a folder for the packages,
/// `target/corpus-sources` when it is left out.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let work = arguments.first().map_or_else(|| root.join("target/corpus-sources"), PathBuf::from);
    let folders = packages::fetch(&work)?;
    let free = free_domains(&folders)?;
    let polish = vec![polish::domain(&folders, BUDGET)?];
    let data = root.join("crates/moescope-corpus/data");
    let mut bytes = write(&data.join("free.jsonl.zst"), &free)?;
    bytes += write(&data.join("polish.jsonl.zst"), &polish)?;
    std::fs::write(data.join("SOURCES.md"), sources::table(&[free, polish].concat()))?;
    if bytes > LARGEST {
        bail!("the shipped files have {bytes} bytes; wanted at most {LARGEST}: lower the budget");
    }
    println!("{bytes} bytes written to {}", data.display());
    Ok(())
}

fn free_domains(folders: &packages::Folders) -> Result<Vec<Domain>> {
    let (english, spanish) = scripture::domains(folders, BUDGET)?;
    Ok(vec![
        novels::domain(folders, BUDGET)?,
        speeches::domain(folders, BUDGET)?,
        english,
        spanish,
        rust_code::domain(folders, BUDGET)?,
        c_code::domain(folders, BUDGET)?,
        sqlite_docs::domain(folders, BUDGET)?,
        jargon::domain(folders, BUDGET)?,
        arithmetic::domain(BUDGET / 2),
    ])
}

fn write(path: &Path, domains: &[Domain]) -> Result<usize> {
    for domain in domains {
        println!("{:14} {:5} documents {:8} bytes", domain.name, domain.documents.len(), domain.bytes());
    }
    let bytes = pack(domains)?;
    std::fs::write(path, &bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(bytes.len())
}

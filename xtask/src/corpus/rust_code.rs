//! Rust: source files of crates under the Unlicense.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use moescope_corpus::{Document, Domain};

use super::clean::{clean, letter_share};
use super::packages::Folders;
use super::thin::thin;

const CRATES: [&str; 6] = ["aho-corasick", "byteorder", "csv", "ignore", "memchr", "walkdir"];
/// Longer files would leave too few to split.
const LONGEST: usize = 28_000;
/// Files with fewer letters are tables.
const LEAST_LETTERS: f64 = 0.6;

/// The domain, evenly over the crates' files.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let mut documents = Vec::new();
    for name in CRATES {
        let folder = folders.of(name)?;
        let mut paths = Vec::new();
        collect(&folder.join("src"), &mut paths)?;
        paths.sort();
        for path in paths {
            let text = clean(&fs::read_to_string(&path)?);
            let label = path.strip_prefix(folder).unwrap_or(&path).display();
            if (500..=LONGEST).contains(&text.len()) && letter_share(&text) >= LEAST_LETTERS {
                documents.push(Document::new(format!("{name}/{label}"), text));
            }
        }
    }
    Ok(Domain::new("rust", thin(documents, budget)))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

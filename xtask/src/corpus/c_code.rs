//! C: the source files that SQLite's one large file is made of.

use std::fs;

use anyhow::{Context, Result, ensure};
use moescope_corpus::{Document, Domain};

use super::clean::{clean, letter_share};
use super::packages::Folders;
use super::thin::thin;

/// Longer files would leave too few to split.
const LONGEST: usize = 20_000;
/// Files with fewer letters are tables.
const LEAST_LETTERS: f64 = 0.55;

/// The domain, evenly over SQLite's `.c` files.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let path = folders.of("libsqlite3-sys")?.join("sqlite3/sqlite3.c");
    let source = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut files = parts(&source);
    files.retain(|file| {
        let length = (1_000..=LONGEST).contains(&file.text.len());
        file.name.ends_with(".c") && length && letter_share(&file.text) >= LEAST_LETTERS
    });
    ensure!(files.len() > 20, "only {} source files were found in {}", files.len(), path.display());
    Ok(Domain::new("c", thin(files, budget)))
}

/// The files between the marks `Begin file` and `End of`.
fn parts(source: &str) -> Vec<Document> {
    let mut files = Vec::new();
    for part in source.split("/************** Begin file ").skip(1) {
        let Some((name, rest)) = part.split_once(' ') else { continue };
        let Some((_, rest)) = rest.split_once('\n') else { continue };
        let end = rest.find(&format!("/************** End of {name} ")).unwrap_or(rest.len());
        files.push(Document::new(name, clean(&rest[..end])));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_at_their_marks() {
        let source = "head\n/************** Begin file a.c ****/\nint a;\n/************** End of a.c ****/\nmore\n\
                      /************** Begin file b.c ****/\nint b;\n";
        assert_eq!(parts(source), [Document::new("a.c", "int a;"), Document::new("b.c", "int b;")]);
    }
}

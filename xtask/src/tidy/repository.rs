use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::finding::Finding;
use super::rust_source::RustSource;

/// Larger files are data, not text that a person wrote.
const LARGEST_TEXT: u64 = 1 << 20;

/// A text file of the repository.
#[derive(Debug)]
pub(super) struct TextFile {
    /// Path relative to the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl TextFile {
    /// The lines with their numbers, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Everything the checks look at, read once.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// Paths of all files, binary ones included.
    paths: BTreeSet<String>,
    /// All text files, by path. Binary files and files above 1 MiB are left out.
    pub(super) texts: Vec<TextFile>,
    /// The Rust files among them, as tokens.
    pub(super) rust: Vec<RustSource>,
    /// Rust files that are not Rust.
    pub(super) unreadable: Vec<Finding>,
}

impl Repository {
    /// Reads the repository under `root`, without what its `.gitignore` names.
    ///
    /// # Errors
    /// If a folder or a file cannot be read.
    pub(super) fn read(root: &Path) -> Result<Repository> {
        let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
        let ignored: Vec<&str> =
            ignored.lines().map(str::trim).filter(|l| !l.is_empty()).chain([".git"]).collect();
        let (mut paths, mut texts) = (BTreeSet::new(), Vec::new());
        walk(root, "", &ignored, &mut paths, &mut texts)?;
        Ok(Repository::new(paths, texts))
    }

    /// Whether there is a file or a folder at this path.
    pub(super) fn has(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.paths.contains(path)
            || self.paths.range(inside.clone()..).next().is_some_and(|p| p.starts_with(&inside))
    }

    fn new(paths: BTreeSet<String>, mut texts: Vec<TextFile>) -> Repository {
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let mut repository = Repository { paths, ..Repository::default() };
        for file in texts.iter().filter(|file| file.path.ends_with(".rs")) {
            match RustSource::parse(&file.path, &file.text) {
                Ok(source) => repository.rust.push(source),
                Err(finding) => repository.unreadable.push(finding),
            }
        }
        repository.mark_test_modules();
        repository.texts = texts;
        repository
    }

    /// A file that its parent declares as `#[cfg(test)] mod name;` is a test as a whole.
    fn mark_test_modules(&mut self) {
        let stems: Vec<String> = self.rust.iter().flat_map(RustSource::test_module_stems).collect();
        for source in &mut self.rust {
            let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
            if stems.iter().any(|test| stem == test || stem.starts_with(&format!("{test}/"))) {
                source.test_file = true;
            }
        }
    }

    /// A repository written by hand, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Repository {
        let text = |&(path, text): &(&str, &str)| TextFile { path: path.to_owned(), text: text.to_owned() };
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        Repository::new(paths, files.iter().map(text).collect())
    }
}

fn walk(
    root: &Path,
    folder: &str,
    ignored: &[&str],
    paths: &mut BTreeSet<String>,
    texts: &mut Vec<TextFile>,
) -> Result<()> {
    let place = root.join(folder);
    for entry in fs::read_dir(&place).with_context(|| format!("reading {}", place.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if is_ignored(&path, &name, ignored) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, ignored, paths, texts)?;
        } else if kind.is_file() {
            paths.insert(path.clone());
            if entry.metadata()?.len() <= LARGEST_TEXT {
                let bytes = fs::read(entry.path()).with_context(|| format!("reading {path}"))?;
                texts.extend(String::from_utf8(bytes).ok().map(|text| TextFile { path, text }));
            }
        }
    }
    Ok(())
}

/// The two forms of pattern that the project's `.gitignore` uses: `/path from the root` and `name anywhere`.
fn is_ignored(path: &str, name: &str, ignored: &[&str]) -> bool {
    ignored.iter().any(|pattern| match pattern.strip_prefix('/') {
        Some(from_root) => path == from_root.trim_end_matches('/'),
        None => name == pattern.trim_end_matches('/'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_names_are_skipped_where_the_pattern_says() {
        let ignored = ["/out", "node_modules"];
        assert!(is_ignored("out", "out", &ignored));
        assert!(!is_ignored("crates/out", "out", &ignored));
        assert!(is_ignored("a/node_modules", "node_modules", &ignored));
    }

    #[test]
    fn walking_reads_text_and_leaves_binary_files() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put(".gitignore", b"/target\n");
        put("target/debug/a.rs", b"fn a() {}");
        put("src/b.rs", b"fn b() {}");
        put("data.bin", &[0xff, 0xfe, 0x00]);
        let repository = Repository::read(folder.path()).unwrap();
        let paths: Vec<&str> = repository.texts.iter().map(|t| t.path.as_str()).collect();
        assert_eq!(paths, [".gitignore", "src/b.rs"]);
        assert_eq!(repository.rust.len(), 1);
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test_file_with_all_below_it() {
        let repository = Repository::of(&[
            ("crates/x/src/lib.rs", "#[cfg(test)]\nmod testing;\nmod real;"),
            ("crates/x/src/testing.rs", "fn f() {}"),
            ("crates/x/src/testing/deep.rs", "fn f() {}"),
            ("crates/x/src/real.rs", "fn f() {}"),
        ]);
        let tests: Vec<&str> =
            repository.rust.iter().filter(|s| s.test_file).map(|s| s.path.as_str()).collect();
        assert_eq!(tests, ["crates/x/src/testing.rs", "crates/x/src/testing/deep.rs"]);
    }

    #[test]
    fn a_file_that_is_not_rust_is_a_finding() {
        let repository = Repository::of(&[("a.rs", "fn a( {")]);
        assert_eq!(repository.unreadable.len(), 1);
    }
}

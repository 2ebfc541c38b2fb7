//! Reading a corpus folder: one sub-folder per domain, files in sorted order.
//!
//! | ending | documents |
//! |---|---|
//! | `.txt` | the whole file is one document |
//! | `.jsonl` | one per line, from the string field `text` |
//! | `.parquet` | one per row, from the string column `text` |
//! | `.txt.gz`, `.txt.zst`, `.jsonl.gz`, `.jsonl.zst` | as above, after unpacking |
//!
//! Sub-folders of a domain are read too. Files of other kinds, and names that begin with a dot, are
//! passed over.

mod json_lines;
mod packing;
mod rows;

use std::path::{Path, PathBuf};

use crate::document::{Document, Domain};
use crate::error::CorpusError;
use packing::Packing;

/// Reads every domain of a folder, in the order of the sub-folders' names.
///
/// # Errors
/// The first problem met: a missing folder, no sub-folders, an empty domain, or a broken file.
pub fn read_folder(folder: &Path) -> Result<Vec<Domain>, CorpusError> {
    if !folder.is_dir() {
        return Err(CorpusError::MissingFolder { folder: folder.into() });
    }
    let mut domains = Vec::new();
    for path in sorted_entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        domains.push(read_domain(&path)?);
    }
    if domains.is_empty() {
        return Err(CorpusError::NoDomains { folder: folder.into() });
    }
    Ok(domains)
}

/// Reads a file, or a folder of files, of sub-folders that are domains, or of both.
///
/// # Errors
/// The first problem met; [`CorpusError::NoText`] where there is nothing to read.
pub fn read_path(path: &Path) -> Result<Vec<Domain>, CorpusError> {
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let nothing = || CorpusError::NoText { path: path.into() };
    if !path.is_dir() {
        let kind = Kind::of(path).filter(|_| path.exists()).ok_or_else(nothing)?;
        return Ok(vec![Domain::new(name(path), read_file(path, kind, &name(path))?)]);
    }
    // `.` and a path that ends in `..` have no name of their own.
    let named = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        sorted_entries(path)?.into_iter().partition(|entry| entry.is_dir());
    let mut loose = Vec::new();
    for (file, kind) in files.iter().filter_map(|file| Some((file, Kind::of(file)?))) {
        loose.extend(read_file(file, kind, &name(file))?);
    }
    let mut domains = if loose.is_empty() { Vec::new() } else { vec![Domain::new(name(&named), loose)] };
    for folder in folders {
        let mut inside = Vec::new();
        collect_files(&folder, &mut inside)?;
        if !inside.is_empty() {
            domains.push(read_domain(&folder)?);
        }
    }
    if domains.is_empty() { Err(nothing()) } else { Ok(domains) }
}

fn read_domain(folder: &Path) -> Result<Domain, CorpusError> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = Vec::new();
    collect_files(folder, &mut files)?;
    let mut documents = Vec::new();
    for (path, kind) in &files {
        let label = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        documents.extend(read_file(path, *kind, &label)?);
    }
    documents.retain(|document: &Document| !document.text.trim().is_empty());
    if documents.is_empty() {
        return Err(CorpusError::EmptyDomain { domain: name, files: files.len() });
    }
    Ok(Domain::new(name, documents))
}

#[derive(Clone, Copy)]
enum Kind {
    Text(Packing),
    JsonLines(Packing),
    Rows,
}

impl Kind {
    /// The kind that a file name's ending says, or `None` for a file to pass over.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        if name.ends_with(".parquet") {
            return Some(Kind::Rows);
        }
        let (plain, packing) = Packing::of(name);
        match plain.rsplit_once('.')?.1 {
            "txt" => Some(Kind::Text(packing)),
            "jsonl" => Some(Kind::JsonLines(packing)),
            _ => None,
        }
    }
}

fn read_file(path: &Path, kind: Kind, label: &str) -> Result<Vec<Document>, CorpusError> {
    match kind {
        Kind::Text(packing) => Ok(vec![Document::new(label, packing.read_text(path)?)]),
        Kind::JsonLines(packing) => json_lines::documents(&packing.read_text(path)?, path, label),
        Kind::Rows => rows::documents(path, label),
    }
}

fn collect_files(folder: &Path, files: &mut Vec<(PathBuf, Kind)>) -> Result<(), CorpusError> {
    for path in sorted_entries(folder)? {
        if path.is_dir() {
            collect_files(&path, files)?;
        } else if let Some(kind) = Kind::of(&path) {
            files.push((path, kind));
        }
    }
    Ok(())
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let access = |source| CorpusError::Access { path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(access)? {
        let path = entry.map_err(access)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    #[test]
    fn files_are_read_in_sorted_order_and_other_kinds_passed_over() {
        let root = folder(&[
            ("b/2.txt", b"two"),
            ("b/1.txt", b"one"),
            ("b/notes.md", b"no"),
            ("b/.hidden.txt", b"no"),
            ("a/deep/x.jsonl", b"{\"text\":\"three\"}\n\n{\"text\":\"four\"}\n"),
        ]);
        let domains = read_folder(root.path()).unwrap();
        let names: Vec<_> = domains.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(domains[0].documents[1], Document::new("deep/x.jsonl:3", "four"));
        assert_eq!(domains[1].documents, [Document::new("1.txt", "one"), Document::new("2.txt", "two")]);
    }

    #[test]
    fn text_is_read_wherever_it_lies() {
        let root = folder(&[
            ("loose.txt", b"one"),
            ("more.jsonl", b"{\"text\":\"two\"}\n"),
            ("b/1.txt", b"three"),
            ("empty/notes.md", b"no"),
        ]);
        let domains = read_path(root.path()).unwrap();
        assert_eq!(domains.len(), 2);
        assert_eq!(domains[0].name, root.path().file_name().unwrap().to_string_lossy());
        assert_eq!(
            domains[0].documents,
            [Document::new("loose.txt", "one"), Document::new("more.jsonl:1", "two")]
        );
        assert_eq!((domains[1].name.as_str(), domains[1].documents.len()), ("b", 1));
        let one = read_path(&root.path().join("more.jsonl")).unwrap();
        assert_eq!((one[0].name.as_str(), one[0].documents[0].text.as_str()), ("more.jsonl", "two"));
        for nothing in ["empty", "empty/notes.md", "absent.txt"] {
            let error = read_path(&root.path().join(nothing)).unwrap_err();
            assert!(error.to_string().contains(".jsonl"), "{nothing}: {error}");
        }
    }

    #[test]
    fn a_missing_folder_says_what_is_wanted() {
        let error = read_folder(Path::new("/no/such/folder")).unwrap_err();
        assert!(error.to_string().contains("one sub-folder per domain"), "{error}");
    }

    #[test]
    fn a_folder_without_sub_folders_is_an_error() {
        let root = folder(&[("loose.txt", b"text")]);
        assert!(matches!(read_folder(root.path()), Err(CorpusError::NoDomains { .. })));
    }

    #[test]
    fn a_domain_without_text_is_an_error_with_its_name() {
        let root = folder(&[("good/1.txt", b"text"), ("empty/1.txt", b"  \n")]);
        let error = read_folder(root.path()).unwrap_err();
        assert!(
            matches!(&error, CorpusError::EmptyDomain { domain, files: 1 } if domain == "empty"),
            "{error}"
        );
    }
}

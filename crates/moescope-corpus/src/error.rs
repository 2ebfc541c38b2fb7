//! The one error type of the crate.

use std::path::PathBuf;

/// What is wrong with a line of JSON, with the column; the parser counts lines anew for each that it is given.
pub(crate) fn json_problem(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    format!("{what} at column {}", error.column())
}

/// What can be wrong with a corpus, a tokenizer, or a request for windows.
///
/// Every message says what was found, what was wanted, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The corpus folder is not there, or is a file.
    #[error("corpus folder {} was not found (or is not a folder); give a folder with one sub-folder per domain", folder.display())]
    MissingFolder {
        /// The folder asked for.
        folder: PathBuf,
    },
    /// The corpus folder has no sub-folders, so no domains.
    #[error("corpus folder {} has no sub-folders; wanted one sub-folder per domain, each with .txt, .jsonl (field `text`), .parquet (column `text`), or .txt/.jsonl packed as .gz or .zst; move the files into such sub-folders", folder.display())]
    NoDomains {
        /// The folder asked for.
        folder: PathBuf,
    },
    /// Neither a folder with text nor a file of a known kind.
    #[error(
        "{}; wanted a file .txt, .jsonl (field `text`) or .parquet (column `text`), the first two also packed as .gz or .zst, or a folder of such files or of sub-folders with them",
        nothing_at(path)
    )]
    NoText {
        /// The path asked for.
        path: PathBuf,
    },
    /// A domain holds no text at all.
    #[error(
        "domain `{domain}` has no text: no document in its readable files ({files}) that is not blank; add documents, or remove the sub-folder"
    )]
    EmptyDomain {
        /// The domain's name.
        domain: String,
        /// Files of a known kind that were found.
        files: usize,
    },
    /// Two domains carry the same name.
    #[error("two domains are called `{domain}`; give each a name of its own")]
    RepeatedDomain {
        /// The repeated name.
        domain: String,
    },
    /// A domain cannot be split three ways.
    #[error(
        "domain `{domain}` is too small to split: found {documents} different documents or sections of {bytes} bytes in all; wanted at least {wanted_documents}, or one document of {wanted_bytes} bytes or more that can be cut; add text to it"
    )]
    TooSmall {
        /// The domain's name.
        domain: String,
        /// Different documents (after cutting) found.
        documents: usize,
        /// Bytes found.
        bytes: usize,
        /// Different documents wanted.
        wanted_documents: usize,
        /// Bytes from which one document alone is enough.
        wanted_bytes: usize,
    },
    /// Shares of a split that are no shares.
    #[error(
        "split shares validation {validation} and test {test} are not possible: both must be above 0 and their sum at most 0.5; the rest is training text"
    )]
    BadShares {
        /// The validation share given.
        validation: f64,
        /// The test share given.
        test: f64,
    },
    /// A file or folder could not be read or written.
    #[error("could not read or write {}; check that it exists and may be accessed", path.display())]
    Access {
        /// The path at fault.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not UTF-8.
    #[error("{} is not UTF-8: byte {byte} does not belong to a character; convert the file to UTF-8", path.display())]
    NotUtf8 {
        /// The file at fault.
        path: PathBuf,
        /// Offset of the first wrong byte, from 0, after unpacking.
        byte: usize,
    },
    /// A .gz or .zst file does not unpack.
    #[error("{} could not be unpacked as {format}; it is damaged or of another kind: pack it again", path.display())]
    Packed {
        /// The file at fault.
        path: PathBuf,
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// A line of a .jsonl file is no JSON object with a `text` string.
    #[error("{} line {line}: {problem}; wanted one JSON object per line with a string field `text`", path.display())]
    JsonLine {
        /// The file at fault.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A .parquet file is damaged or has no `text` column of strings.
    #[error("{}: {problem}; wanted a Parquet file with a string column `text`", path.display())]
    Parquet {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer file or its use failed.
    #[error("tokenizer {name}: {problem}; give a Hugging Face tokenizer.json, or train one")]
    Tokenizer {
        /// File name, or what was being done.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A vocabulary that cannot hold the bytes and the separator.
    #[error(
        "a vocabulary of {found} is too small: the 256 bytes and the separator need {wanted}; ask for at least that many"
    )]
    VocabularyTooSmall {
        /// The size asked for.
        found: usize,
        /// The least size.
        wanted: usize,
    },
    /// A domain has fewer windows than asked for.
    #[error(
        "domain `{domain}` has {found} windows of {length} tokens in its {split} split; wanted {wanted}; add text, or ask for shorter or fewer windows"
    )]
    TooFewWindows {
        /// The domain's name.
        domain: String,
        /// The split's name.
        split: &'static str,
        /// Tokens per window.
        length: usize,
        /// Windows found.
        found: usize,
        /// Windows wanted.
        wanted: usize,
    },
    /// A window length or batch size that cannot be used.
    #[error("{what} is {found}; wanted at least {wanted}")]
    TooLittle {
        /// The quantity.
        what: &'static str,
        /// The value given.
        found: usize,
        /// The least value.
        wanted: usize,
    },
    /// A task's sizes contradict each other.
    #[error("task `{task}`: {problem}; change its sizes")]
    TaskSizes {
        /// The task's name.
        task: &'static str,
        /// What is wrong with the sizes.
        problem: String,
    },
}

/// What there is where text was wanted.
fn nothing_at(path: &std::path::Path) -> String {
    match path.exists() {
        true => format!("there is no text at {}", path.display()),
        false => format!("there is no file or folder {}", path.display()),
    }
}

use std::path::{Path, PathBuf};

/// What disk or machine refuse: what was found, what was wanted, the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file that cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read`, `write` and the like.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Text that is not UTF-8.
    #[error("{} is not UTF-8: the byte at offset {offset} belongs to no character; convert the file", path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// First byte that does not fit, from 0.
        offset: usize,
    },
    /// A safetensors file whose header is broken or promises more than the file holds.
    #[error("{} is no whole safetensors file: {reason}; fetch or write it again", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process works in the folder.
    #[error(
        "another moescope is at work in {}; wait until it has ended (or end it), or choose another folder",
        folder.display()
    )]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// Work that cannot fit this machine.
    #[error("{what} would take about {needed} of memory, and this machine has {found}; {remedy}")]
    Memory {
        /// What was asked for, with its sizes.
        what: String,
        /// Memory that it takes, in words.
        needed: String,
        /// Memory of the machine, in words.
        found: String,
        /// What to change.
        remedy: String,
    },
}

impl HostError {
    /// A file operation that failed; `action` is a verb, as in "cannot *read* …".
    pub fn file(action: &'static str, path: &Path, source: std::io::Error) -> HostError {
        HostError::File { action, path: path.into(), source }
    }
}

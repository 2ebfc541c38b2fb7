use std::path::{Path, PathBuf};

/// What disk or machine refuse: what was found, what was wanted, the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file that cannot be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
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

/// What to do about a file operation that failed, as the end of a sentence; empty where the message says it all.
///
/// It knows only what the system says; which folder was meant, and why, is the caller's to say.
pub fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match system_kind(error) {
        Kind::NotFound => "; check the path, and whether what writes it has run",
        Kind::NotADirectory => "; a part of this path is a file where a folder was wanted",
        Kind::IsADirectory => "; this is a folder where a file was wanted",
        Kind::PermissionDenied => "; choose a place that you may use, or change its permissions",
        Kind::ReadOnlyFilesystem => "; choose a place that can be written",
        Kind::StorageFull | Kind::QuotaExceeded => {
            "; make room, then give the same command again (with --resume where it has that), or choose another disk"
        }
        _ => "",
    }
}

/// What the system said, also where a library has wrapped it.
fn system_kind(error: &std::io::Error) -> std::io::ErrorKind {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<std::io::Error>() {
            return system_kind(inner);
        }
        cause = inner.source();
    }
    error.kind()
}

impl HostError {
    /// A file operation that failed; `action` is a verb, as in "cannot *read* …".
    pub fn file(action: &'static str, path: &Path, source: std::io::Error) -> HostError {
        HostError::File { action, path: path.into(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_failed_file_operation_says_what_to_do() {
        let of = |kind| HostError::file("write", Path::new("a/b"), Error::from(kind)).to_string();
        assert!(
            of(ErrorKind::StorageFull).contains("a/b")
                && of(ErrorKind::StorageFull).contains("--resume where")
        );
        // As libraries of file formats hand it on.
        let wrapped = Error::other(Error::other(Error::from(ErrorKind::StorageFull)));
        assert!(HostError::file("write", Path::new("a/b"), wrapped).to_string().contains("--resume where"));
        assert!(of(ErrorKind::NotADirectory).ends_with("where a folder was wanted"));
        assert!(of(ErrorKind::PermissionDenied).contains("permissions"));
    }
}

//! What can go wrong with a trace.

use std::path::PathBuf;

use moescope_base::{SubjectError, TokensError};
use parquet::errors::ParquetError;

/// A trace that does not hold together, or cannot be recorded, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A column or a layer that does not have one entry per token, or an expert out of range.
    #[error("trace: {what} has {found}, want {wanted}")]
    Inconsistent {
        /// Which part.
        what: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// The subject could not answer.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Token ids that make no batch.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The disk.
    #[error(transparent)]
    Host(#[from] moescope_host::HostError),
    /// A file that cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A Parquet file that is damaged or cannot be written.
    #[error("{} is no whole Parquet file of this trace; record it again", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// A manifest that does not read.
    #[error("{} is not a manifest of a trace; record it again", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A trace written in another format than this code reads.
    #[error("{}: the trace has schema {found}, this version reads schema {wanted}; record it again", path.display())]
    Schema {
        /// The manifest.
        path: PathBuf,
        /// Schema found.
        found: u32,
        /// Schema wanted.
        wanted: u32,
    },
    /// A tensor that a file does not hold in the wanted form.
    #[error("{}: the tensor `{name}` is {found}, wanted {wanted}", path.display())]
    Tensor {
        /// Which file.
        path: PathBuf,
        /// Which tensor.
        name: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// A recording of activations that was interrupted.
    #[error("the recording in {} is not finished; go on with the same command and `--resume`", folder.display())]
    Unfinished {
        /// Its folder.
        folder: PathBuf,
    },
    /// A folder that holds a part of a record of routes.
    #[error("{} holds a part of a record of routes: {reason}", folder.display())]
    Pieces {
        /// The folder.
        folder: PathBuf,
        /// Why it is not taken up, and what to do.
        reason: String,
    },
    /// A folder that holds a recording already.
    #[error("{} holds a recording of activations; go on with `--resume`, or choose another folder as --out", folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that holds a recording of something else.
    #[error("{} holds another recording: {what} is {found}, wanted {wanted}; choose another folder as --out", folder.display())]
    OtherRecording {
        /// The folder.
        folder: PathBuf,
        /// What differs.
        what: String,
        /// What it is in the folder.
        found: String,
        /// What it is in this call.
        wanted: String,
    },
    /// A value that was asked for and is not in the trace.
    #[error("{name} was not recorded; run again with `--hooks {name}`")]
    NotRecorded {
        /// Full hook name.
        name: String,
    },
}

//! What can be wrong with a dictionary, its training or its files.

use std::path::PathBuf;

use moescope_base::TableError;
use moescope_engine::EngineError;
use moescope_host::HostError;
use moescope_weights::WeightsError;

/// An error of whatever gives activations: a model, a file, a test.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// The one error of this crate: each variant says what was found, what was wanted, and the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// A setting that no training can have.
    #[error("dictionary: `{setting}` is {found}, wanted {wanted}; correct the setting")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What was asked for.
        found: String,
        /// What is possible.
        wanted: String,
    },
    /// Rows that are not as wide as what they are for.
    #[error(
        "dictionary: {what} is {found} wide, wanted {wanted}; use the site that the dictionary was made for"
    )]
    Width {
        /// Which rows.
        what: &'static str,
        /// Their width.
        found: usize,
        /// The width that was wanted.
        wanted: usize,
    },
    /// There is nothing to learn from or to measure.
    #[error(
        "dictionary: there are {found} rows of activations, wanted {wanted} or more; add text, or choose a site that more tokens pass through"
    )]
    TooFew {
        /// Rows.
        found: u64,
        /// Rows at least.
        wanted: u64,
    },
    /// All rows are equal, so there is no variance to explain.
    #[error(
        "dictionary: all rows of the {what} are equal, so there is nothing to explain; choose another site"
    )]
    Constant {
        /// Input or target.
        what: &'static str,
    },
    /// An activation or a loss that is no number.
    #[error(
        "dictionary: {what} is not finite at step {step}; look at the activations, or take a smaller learning rate"
    )]
    NotFinite {
        /// What was found.
        what: &'static str,
        /// Step, counted from one.
        step: u64,
    },
    /// The watcher wished to stop.
    #[error("dictionary: stopped after {steps} steps")]
    Stopped {
        /// Steps that were done.
        steps: u64,
    },
    /// A configuration that says something which is not computed here.
    #[error("{}: `{key}` is {found}, wanted {wanted}; convert the dictionary, or open another", path.display())]
    Unsupported {
        /// File.
        path: PathBuf,
        /// Key of the configuration.
        key: &'static str,
        /// What it says.
        found: String,
        /// What can be computed.
        wanted: &'static str,
    },
    /// A configuration that cannot be read.
    #[error("{}: {reason}; wanted the cfg.json of a dictionary in SAELens' format", path.display())]
    Configuration {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor of another shape than the configuration says.
    #[error("{}: `{tensor}` has shape {found:?}, wanted {wanted:?}; cfg.json and sae_weights.safetensors do not belong together", path.display())]
    Shape {
        /// File.
        path: PathBuf,
        /// Name of the tensor.
        tensor: &'static str,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape that follows from the configuration.
        wanted: Vec<usize>,
    },
    /// A dictionary that the format has no name for.
    #[error(
        "dictionary: SAELens' format has no {what}; train a `batchtopk` or `jumprelu` transcoder instead"
    )]
    NoName {
        /// What cannot be written.
        what: &'static str,
    },
    /// The source of activations failed.
    #[error("dictionary: the activations could not be had: {0}")]
    Source(#[source] SourceError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file could not be read or written.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Weights could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Columns that make no table.
    #[error(transparent)]
    Table(#[from] TableError),
}

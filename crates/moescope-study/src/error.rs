//! What can go wrong in a study. Every message says what was found, what was wanted, and what to do next.

use std::path::{Path, PathBuf};

/// Why a study cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A value that contradicts another, or is out of range.
    #[error("the study's configuration has `{key}` = {found}; wanted: {wanted}")]
    Config {
        /// Key as in the TOML file, with its table: `model.d_model`.
        key: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// A corpus in which nothing can be told apart.
    #[error(
        "the corpus has one domain, `{domain}`; a study needs two or more sub-folders, since it asks what tells domains apart"
    )]
    OneDomain {
        /// The domain.
        domain: String,
    },
    /// The output folder holds something else.
    #[error("{} {found}; {wanted}", folder.display())]
    Folder {
        /// Folder.
        folder: PathBuf,
        /// What was found.
        found: String,
        /// What to do.
        wanted: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A file of the study does not hold what the study wrote.
    #[error("{} is damaged: {reason}; delete it and run again with `--resume`", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A model that is not the one that the study has written and measured.
    #[error("{} is not what the study wrote: {reason}; delete the folder {} and run again with `--resume`", path.display(), run.display())]
    Changed {
        /// Weights, or the manifest beside them.
        path: PathBuf,
        /// Folder of the run, to be grown anew.
        run: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The models have not learned enough for any answer to mean something.
    ///
    /// A model near the unigram entropy knows little more than the frequencies of single tokens; comparing what is
    /// inside such models would compare noise. The whole study is refused, since a claim needs every seed.
    #[error(
        "run {run}: validation loss {loss:.3} nats; wanted at most {wanted:.3}, well below the unigram entropy of {unigram:.3}; train longer (`training.steps`) or check `training.learning_rate`"
    )]
    NotLearned {
        /// Run.
        run: String,
        /// Its validation loss, nats per token.
        loss: f64,
        /// The most that was allowed, nats per token.
        wanted: f64,
        /// Loss on the same windows of a model that knows only the frequencies of tokens, nats per token.
        unigram: f64,
    },
    /// Stopped on request; what is done is kept. Not a failure: the same study goes on with `--resume`.
    #[error("interrupted; {done} of {all} runs are kept: run the same command with `--resume` to go on")]
    Interrupted {
        /// Finished runs.
        done: usize,
        /// Planned runs.
        all: usize,
    },
    /// The disk, or another program in the same folder.
    #[error(transparent)]
    Host(#[from] moescope_host::HostError),
    /// Text, tokenizer or windows.
    #[error(transparent)]
    Corpus(#[from] moescope_corpus::CorpusError),
    /// A model.
    #[error(transparent)]
    Model(#[from] moescope_model::ModelError),
    /// Training.
    #[error(transparent)]
    Train(#[from] moescope_train::TrainError),
    /// A question put to a model.
    #[error(transparent)]
    Subject(#[from] moescope_base::SubjectError),
    /// A trace.
    #[error(transparent)]
    Trace(#[from] moescope_trace::TraceError),
    /// An instrument.
    #[error(transparent)]
    Analysis(#[from] moescope_analysis::AnalysisError),
    /// A table that does not hold together.
    #[error(transparent)]
    Table(#[from] moescope_base::TableError),
}

impl StudyError {
    /// A value that makes no sense or fits no machine.
    pub(crate) fn out_of_range(key: &str, found: impl std::fmt::Display, wanted: &str) -> StudyError {
        StudyError::Config { key: key.into(), found: found.to_string(), wanted: wanted.into() }
    }

    /// A file operation that failed, with its place; `action` is a verb, as in "cannot *read* …".
    pub(crate) fn file(action: &'static str, path: &Path, source: std::io::Error) -> StudyError {
        StudyError::File { action, path: path.to_owned(), source }
    }
}

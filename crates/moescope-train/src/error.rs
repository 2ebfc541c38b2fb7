use std::ops::Range;
use std::path::PathBuf;

use moescope_corpus::CorpusError;
use moescope_engine::EngineError;
use moescope_host::HostError;
use moescope_model::ModelError;

/// Why a run could not be planned, trained, resumed or evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A field of a [`crate::TrainPlan`] has a value that cannot be trained.
    #[error("plan: `{field}` is {found}, wanted {wanted}; correct the plan")]
    Plan {
        /// The field's name.
        field: &'static str,
        /// Its value.
        found: String,
        /// The values it may have.
        wanted: String,
    },
    /// A configuration file is wrong at one place.
    #[error("{file}:{line}:{column}: {problem}")]
    Config {
        /// Name of the file.
        file: String,
        /// Line of the mistake, from 1.
        line: usize,
        /// Column of the mistake in characters, from 1.
        column: usize,
        /// Bytes of the text that are wrong.
        span: Range<usize>,
        /// What was found, what was wanted, and the next step.
        problem: String,
    },
    /// The batch of a step does not have the sizes of the plan.
    #[error(
        "the batch of step {step} is wrong: {problem}; give batches of {batch} sequences of {positions} tokens"
    )]
    Batch {
        /// Step, from 0.
        step: u64,
        /// What was found.
        problem: String,
        /// Sequences that the plan wants.
        batch: usize,
        /// Positions that the plan wants.
        positions: usize,
    },
    /// Training blew up.
    #[error(
        "step {step}: the loss is {loss} and the norm of the gradient {gradient_norm}, wanted finite numbers; lower the learning rate or lengthen the warm-up"
    )]
    Diverged {
        /// Step, from 0.
        step: u64,
        /// Loss in nats.
        loss: f64,
        /// Norm of all gradients before clipping.
        gradient_norm: f64,
    },
    /// A file or folder could not be read or written. Whatever was there before is still there.
    #[error("cannot {doing} {}: {source}; check the space left and the permissions, then start again", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A resume state is no resume state, or has been cut or changed.
    #[error("{} cannot be resumed from: {problem}; delete it to start from the beginning", path.display())]
    Damaged {
        /// The resume state.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A resume state belongs to a run with another plan.
    #[error("{} belongs to another plan: {differences}; train with that plan, or into another folder", path.display())]
    OtherPlan {
        /// The resume state.
        path: PathBuf,
        /// Each field that differs, as found in the file and as wanted now.
        differences: String,
    },
    /// A file of a finished run is missing, cut short or another one.
    #[error("{} is not the file that this run finished with (missing, cut short or changed since); to train again, delete {} and give the same command", path.display(), folder.display())]
    NotWhatWasTrained {
        /// The file.
        path: PathBuf,
        /// The run's folder.
        folder: PathBuf,
    },
    /// A resume state belongs to a run on other data.
    #[error("{} belongs to a run on other data (another text, or another order of it); train on that data, or into another folder", path.display())]
    OtherData {
        /// The resume state.
        path: PathBuf,
    },
    /// A table of metrics could not be written or read.
    #[error("metrics {}: {problem}; check the space left and the file", path.display())]
    Metrics {
        /// The Parquet file.
        path: PathBuf,
        /// What the Parquet library answered.
        problem: String,
    },
    /// The text cannot be evaluated.
    #[error("evaluation: {problem}")]
    Evaluation {
        /// What was found and wanted.
        problem: String,
    },
    /// The disk or the machine refused: a file that does not read as text, or a plan that does not fit into memory.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The model refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The corpus or tokenizer refused.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
}

//! What can go wrong in a study. Every message says what was found, what was wanted, and what to do next.

use std::path::{Path, PathBuf};

use crate::roster::{Run, Workload};

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
    /// The same with its place, where the value stands in a text.
    #[error("{file}:{line}:{column}: {problem}")]
    Place {
        /// Name of the text, as given by whoever had it read.
        file: String,
        /// Line of the value, from 1.
        line: usize,
        /// Column of the value in characters, from 1.
        column: usize,
        /// What is wrong with it.
        problem: Box<StudyError>,
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
    #[error("cannot {action} {}: {source}{}", path.display(), moescope_host::advice(source))]
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
    /// Stopped on request before there was anything to keep. Not a failure either.
    #[error("interrupted while {doing}; nothing was begun, so run the same command again")]
    Stopped {
        /// What was being done.
        doing: &'static str,
    },
    /// A model whose loss or gradient is no number any more. The whole study ends, since a claim needs every seed.
    #[error(
        "run {run}: {source}. Lower `{key}`; as that makes it another study, choose another `--out`, and the models that are finished stay in this one"
    )]
    Diverged {
        /// Run.
        run: String,
        /// Key of its learning rate.
        key: &'static str,
        /// Step, loss and gradient.
        source: Box<moescope_train::TrainError>,
    },
    /// Whatever else fails while one model is trained or measured.
    #[error("run {run}: {source}")]
    Run {
        /// Run.
        run: String,
        /// Cause.
        source: Box<StudyError>,
    },
    /// A model of this folder that was trained on other text than there is now.
    #[error(
        "run {run} was trained on other text: its run.json has the hash {found} of training tokens, and corpus and tokenizer now give {wanted}; bring the text back, or choose another `--out`"
    )]
    OtherText {
        /// Run.
        run: String,
        /// Hash of the training windows that it was trained on.
        found: String,
        /// Hash of those that there are.
        wanted: String,
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
    /// An instrument that cannot run where it promises something.
    #[error("{instrument} cannot be tried where there is `{planted}`: {source}")]
    Bench {
        /// The instrument.
        instrument: &'static str,
        /// What is planted.
        planted: &'static str,
        /// Cause.
        source: Box<moescope_analysis::AnalysisError>,
    },
    /// A table that does not hold together.
    #[error(transparent)]
    Table(#[from] moescope_base::TableError),
}

impl StudyError {
    /// A value that makes no sense or fits no machine.
    pub(crate) fn out_of_range(key: &str, found: impl std::fmt::Display, wanted: &str) -> StudyError {
        StudyError::Config { key: key.into(), found: found.to_string(), wanted: wanted.into() }
    }

    /// The error with the run in which it happened, where it does not say so itself. An interruption stays one, and errors about
    /// files name the folder of the run already.
    pub(crate) fn in_run(self, run: &Run) -> StudyError {
        match self {
            StudyError::Train(source @ moescope_train::TrainError::Diverged { .. }) => StudyError::Diverged {
                run: run.to_string(),
                key: if run.workload == Workload::Language {
                    "training.learning_rate"
                } else {
                    "tasks.learning_rate"
                },
                source: Box::new(source),
            },
            StudyError::Train(_)
            | StudyError::Corpus(_)
            | StudyError::Model(_)
            | StudyError::Subject(_)
            | StudyError::Trace(_)
            | StudyError::Analysis(_) => StudyError::Run { run: run.to_string(), source: Box::new(self) },
            other => other,
        }
    }

    /// A file operation that failed, with its place; `action` is a verb, as in "cannot *read* …".
    pub(crate) fn file(action: &'static str, path: &Path, source: std::io::Error) -> StudyError {
        StudyError::File { action, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn a_diverged_run_is_named_with_the_key_to_change() {
        let diverged = || {
            let (step, loss, gradient_norm) = (1, f64::NAN, f64::NAN);
            StudyError::Train(moescope_train::TrainError::Diverged { step, loss, gradient_norm })
        };
        let run = Run::language(Family::Moe { granularity: 4 }, 2);
        let language = diverged().in_run(&run).to_string();
        assert!(language.starts_with("run moe-g4.s2: step 1: the loss is NaN"), "{language}");
        assert!(language.contains("Lower `training.learning_rate`"), "{language}");
        let task = diverged().in_run(&Run { workload: Workload::Recall, ..run }).to_string();
        assert!(task.starts_with("run recall-moe-g4.s2: "), "{task}");
        assert!(task.contains("Lower `tasks.learning_rate`"), "{task}");
    }

    #[test]
    fn an_interruption_of_a_run_stays_an_interruption() {
        let run = Run::language(Family::TopKDense, 1);
        let error = StudyError::Interrupted { done: 0, all: 0 }.in_run(&run);
        assert!(matches!(error, StudyError::Interrupted { .. }), "{error}");
    }
}

//! What can go wrong with a model.

use std::path::PathBuf;

use moescope_base::{HookError, SubjectError, nearest_name};
use moescope_engine::EngineError;
use moescope_host::HostError;
use moescope_weights::WeightsError;

/// The one error of this crate: what was found, what was wanted, the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Sizes or options that make no model.
    #[error("model description: {what} is {found}, wanted {wanted}; correct the description")]
    Description {
        /// Which size or option.
        what: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// Token ids or lengths that the model cannot take.
    #[error("the tokens do not fit the model: {what} is {found}, wanted {wanted}")]
    Tokens {
        /// Which property.
        what: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// A hook point that this model does not have.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// An edit that cannot take effect.
    #[error("the edit at {at} cannot take effect: {reason}")]
    Edit {
        /// Hook point or layer.
        at: String,
        /// What was found and wanted.
        reason: String,
    },
    /// The engine refused an operation.
    #[error("the computation failed")]
    Engine(#[from] EngineError),
    /// A pass that was asked to stop before its end.
    #[error("stopped before the end of the pass")]
    Stopped,
    /// A file that cannot be read or written, or weights that this machine cannot hold.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A JSON file that is not one, or not of the wanted form.
    #[error("{} is not the JSON that was wanted; it may have been cut short: fetch or write it again", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A `model_type`, or the architecture of a GGUF file, that no family of ours covers.
    #[error("{}: `{key}` is {}; supported are {}", path.display(), unknown(found.as_deref(), known), known.join(", "))]
    UnknownFamily {
        /// The configuration file.
        path: PathBuf,
        /// The key that names the family.
        key: &'static str,
        /// What it says, if it says anything.
        found: Option<String>,
        /// All supported names.
        known: Vec<&'static str>,
    },
    /// A configuration key that is missing, or of the wrong kind, or has an effect that we do not reproduce.
    #[error("{}: the key `{key}` is {found}, wanted {wanted}", path.display())]
    Configuration {
        /// The configuration file.
        path: PathBuf,
        /// Which key.
        key: String,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// A tensor that the model needs and the files lack.
    #[error("{}: the tensor `{name}` is missing; the folder is incomplete or of another family", path.display())]
    MissingTensor {
        /// The model folder.
        path: PathBuf,
        /// Name in the files.
        name: String,
    },
    /// A tensor that the files hold and the model would ignore.
    #[error(
        "{}: the tensor `{name}` has no place in a model of this family; ignoring it would change the results",
        path.display()
    )]
    UnexpectedTensor {
        /// The model folder.
        path: PathBuf,
        /// Name in the files.
        name: String,
    },
    /// Weights that are whole numbers.
    #[error(
        "{}: the tensor `{name}` is stored as {found}, wanted floating-point numbers or a quantisation that is known; \
         docs/checkpoints.md lists the formats",
        path.display()
    )]
    TensorFormat {
        /// The model folder.
        path: PathBuf,
        /// Name in the files.
        name: String,
        /// How its numbers are stored.
        found: String,
    },
    /// A tensor whose shape does not fit the configuration.
    #[error("the tensor `{name}` has shape {found:?}, wanted {wanted:?}; configuration and weights disagree")]
    TensorShape {
        /// Name in the files or of the parameter.
        name: String,
        /// Shape found.
        found: Vec<usize>,
        /// Shape wanted.
        wanted: Vec<usize>,
    },
    /// A bound on memory into which not even one step fits.
    #[error("{what} needs at least {needed} of memory, and may take {found}; {remedy}")]
    Bound {
        /// The work, with its sizes.
        what: String,
        /// Least memory that would do.
        needed: String,
        /// The bound.
        found: String,
        /// What to change.
        remedy: String,
    },
    /// Something that only a model with all weights in memory has.
    #[error(
        "{what} needs all weights in memory, and this model reads them as it needs them; open it without a bound, or with a larger one"
    )]
    Streamed {
        /// What was asked for.
        what: &'static str,
    },
    /// Weights whose files are incomplete or disagree, or whose numbers are of a kind that we do not read or not finite.
    #[error(transparent)]
    Weights(WeightsError),
}

impl From<WeightsError> for ModelError {
    fn from(error: WeightsError) -> ModelError {
        match error {
            WeightsError::Host(host) => ModelError::Host(host),
            WeightsError::Json { path, source } => ModelError::Json { path, source },
            other => ModelError::Weights(other),
        }
    }
}

impl ModelError {
    /// An edit that cannot take effect. The reason says what was found and what would do.
    pub(crate) fn edit(at: impl ToString, reason: impl Into<String>) -> ModelError {
        ModelError::Edit { at: at.to_string(), reason: reason.into() }
    }

    /// Tokens that do not fit; `what` is a noun that stands before "is".
    pub(crate) fn tokens(what: &str, found: impl ToString, wanted: impl ToString) -> ModelError {
        ModelError::Tokens { what: what.into(), found: found.to_string(), wanted: wanted.to_string() }
    }

    /// A size or option that makes no model; `what` names the field.
    pub(crate) fn description(what: impl Into<String>, found: impl ToString, wanted: impl ToString) -> Self {
        ModelError::Description { what: what.into(), found: found.to_string(), wanted: wanted.to_string() }
    }
}

/// What is wrong with the name of a family, and the one that may be meant.
fn unknown(found: Option<&str>, known: &[&str]) -> String {
    let Some(found) = found else { return "absent".into() };
    match nearest_name(found, known.iter().copied()) {
        Some(near) => format!("`{found}`, which is not supported (did you mean `{near}`?)"),
        None => format!("`{found}`, which is not supported"),
    }
}

impl From<ModelError> for SubjectError {
    fn from(error: ModelError) -> SubjectError {
        match error {
            ModelError::Hook(hook) => SubjectError::Hook(hook),
            ModelError::Edit { at, reason } => SubjectError::Edit { at, reason },
            ModelError::Tokens { .. } => SubjectError::Input { reason: error.to_string() },
            other => SubjectError::Compute(Box::new(other)),
        }
    }
}

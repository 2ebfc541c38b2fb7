use std::ops::Range;
use std::path::PathBuf;

use moescope_host::HostError;

use crate::NumberFormat;

/// What is wrong with weights, or with getting them: what was found, what was wanted, the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file that cannot be read or written, or a safetensors file that is damaged.
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
    /// A shard that the index names and the folder lacks.
    #[error("{}: the shard `{shard}` is missing, and the index names it for `{tensor}`; fetch it", folder.display())]
    MissingShard {
        /// The model folder.
        folder: PathBuf,
        /// Name of the file.
        shard: String,
        /// The first tensor that should be in it.
        tensor: String,
    },
    /// A GGUF file that is broken, or of a version that is not read.
    #[error("{} is no GGUF file that can be read: {reason}", path.display())]
    Gguf {
        /// Which file.
        path: PathBuf,
        /// What was found and wanted.
        reason: String,
    },
    /// A path with no weights of a kind that is read.
    #[error(
        "{} holds no weights: wanted model.safetensors, model.safetensors.index.json, or one .safetensors or .gguf file; {found}",
        path.display()
    )]
    NoWeights {
        /// Where they were looked for.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// Neither a path that exists nor a name that a model on the hub could have.
    #[error(
        "there is no file or folder `{found}`, and it is no name of a model either; wanted a folder, a .gguf file or org/name[@revision]"
    )]
    NoModel {
        /// What was given.
        found: String,
    },
    /// A model that the hub does not give.
    #[error("cannot get the model {model}: {reason}")]
    Hub {
        /// `org/name@revision`.
        model: String,
        /// What was asked for and answered.
        reason: String,
    },
    /// A hub that cannot be reached, or breaks off.
    #[error("cannot reach the hub for the model {model}: {reason}; try again, or name a folder")]
    Unreachable {
        /// `org/name@revision`.
        model: String,
        /// What was asked for and what happened.
        reason: String,
    },
    /// A tensor that is not there.
    #[error("{}: there is no tensor `{name}`", path.display())]
    NoTensor {
        /// Where it was looked for.
        path: PathBuf,
        /// Its name.
        name: String,
    },
    /// A tensor whose numbers are stored in a way that has no reading as real numbers here.
    #[error("the tensor `{name}` is stored as {found}, which is not read as numbers; convert the checkpoint")]
    NumberFormat {
        /// Name in the files.
        name: String,
        /// Format found.
        found: NumberFormat,
    },
    /// Quantised numbers and their scales that do not belong together.
    #[error("the tensor `{name}` has shape {found:?}, wanted {wanted}; numbers and scales disagree")]
    Scales {
        /// The tensor of the scales.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What would fit.
        wanted: String,
    },
    /// Quantised numbers without the scales that their model has.
    #[error(
        "the tensor `{name}` is in FP8, as `quantization_config` says, and its scales `{name}_scale_inv` are missing; fetch the files again"
    )]
    NoScales {
        /// The tensor of the numbers.
        name: String,
    },
    /// Rows that a tensor does not have, or room for another number of them.
    #[error("the rows {rows:?} of the tensor `{name}`, shape {shape:?}, do not fill {room} numbers")]
    Rows {
        /// Name of the tensor.
        name: String,
        /// Rows that were asked for, along the slowest axis.
        rows: Range<usize>,
        /// Lengths of its axes.
        shape: Vec<usize>,
        /// Numbers that there was room for.
        room: usize,
    },
    /// A weight that is infinite or not a number.
    #[error(
        "the tensor `{name}` holds {found} at entry {entry}, wanted finite weights; the checkpoint is damaged"
    )]
    NotFinite {
        /// Name in the files.
        name: String,
        /// First such entry, row-major.
        entry: usize,
        /// What stands there.
        found: f32,
    },
}

impl WeightsError {
    /// Whether it may go away by itself.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, WeightsError::Unreachable { .. })
    }

    /// A complaint about a safetensors file.
    pub(crate) fn broken(path: impl Into<PathBuf>, reason: impl Into<String>) -> WeightsError {
        WeightsError::Host(HostError::Broken { path: path.into(), reason: reason.into() })
    }
}

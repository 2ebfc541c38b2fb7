use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use moescope_host::{Origin, replace};
use moescope_model::Counts;
use serde::{Deserialize, Serialize};

use crate::{TrainError, TrainPlan, files};

/// What `run.json` says about a run.
///
/// Everything but [`Manifest::machine`] and [`Manifest::origin`] is decided by plan, data and program version, and comes out equal on every machine
/// with the same instruction set, for any number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout.
    pub schema: u32,
    /// Program, commit and machine that finished the training.
    pub origin: Origin,
    /// The plan, with every default filled in.
    pub plan: TrainPlan,
    /// Parameters and arithmetic of the model.
    pub counts: Counts,
    /// What was trained and evaluated on.
    pub data: DataRecord,
    /// How well it went.
    pub losses: Losses,
    /// How fast it went.
    pub machine: Machine,
    /// BLAKE3 of the model's files, by name.
    pub files: BTreeMap<String, String>,
}

/// The data of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// `embedded`, or the folder.
    pub corpus: String,
    /// Names of the domains, in order.
    pub domains: Vec<String>,
    /// Tokens of the tokenizer.
    pub vocabulary: usize,
    /// BLAKE3 of `tokenizer.json`.
    pub tokenizer_hash: String,
    /// BLAKE3 of the training windows.
    pub training_hash: String,
    /// BLAKE3 of the validation windows.
    pub validation_hash: String,
    /// Whether large domains were seen more often.
    pub proportional: bool,
    /// Different tokens in the training windows; a run that sees more has repeated them.
    pub training_tokens: u64,
    /// Loss in nats of a model that knows only how often each token occurs: the line that any model must beat.
    pub unigram_entropy: f64,
}

/// Losses in nats per token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Last batch of the training, before its update.
    pub training: f64,
    /// Mean over the predictions in the validation windows. One model: it does not show the scatter between seeds.
    pub validation: f64,
    /// The same for each domain.
    pub validation_by_domain: BTreeMap<String, f64>,
    /// Share of right predictions in the validation windows.
    pub validation_accuracy: f64,
    /// Predictions in the validation windows.
    pub validation_predictions: usize,
}

/// What depends on the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Threads of the pool.
    pub threads: usize,
    /// Steps of the last call; fewer than the plan's where the run was resumed.
    pub steps: u64,
    /// Seconds that these steps took, saving included.
    pub seconds: f64,
    /// Tokens of these steps per second.
    pub tokens_per_second: f64,
}

impl Manifest {
    /// Version of the layout that this program writes.
    pub const SCHEMA: u32 = 3;

    /// Writes `run.json` into a run's folder, in one go.
    ///
    /// # Errors
    /// [`TrainError::Host`]; an earlier file then stays.
    pub fn save(&self, folder: &Path) -> Result<(), TrainError> {
        let mut json = serde_json::to_string_pretty(self).expect("plain data becomes JSON");
        json.push('\n');
        Ok(replace(&folder.join("run.json"), |file| file.write_all(json.as_bytes()))?)
    }

    /// BLAKE3 of each file of a model in a run's folder.
    ///
    /// # Errors
    /// [`TrainError::File`] when one cannot be read.
    pub fn hash_files(folder: &Path) -> Result<BTreeMap<String, String>, TrainError> {
        let hash = |name: &str| {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(|error| files::failure("read", &path, error))?;
            Ok((name.to_owned(), blake3::hash(&bytes).to_hex().to_string()))
        };
        ["config.json", "model.safetensors", "tokenizer.json"].into_iter().map(hash).collect()
    }

    /// Reads the `run.json` of a run's folder; `None` where there is none.
    ///
    /// # Errors
    /// [`TrainError::File`] when it cannot be read, [`TrainError::Damaged`] when it is no manifest.
    pub fn open(folder: &Path) -> Result<Option<Manifest>, TrainError> {
        let path = folder.join("run.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| TrainError::Damaged { path, problem: error.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(files::failure("read", &path, source)),
        }
    }
}

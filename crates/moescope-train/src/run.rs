//! The command `moescope train`: text, tokenizer, training, evaluation and manifest.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use moescope_base::Seed;
use moescope_corpus::{Corpus, PreparedText, Tokenizer, WindowSet};
use moescope_host::{Origin, replace};

use crate::config::DataConfig;
use crate::differences::differences;
use crate::manifest::{DataRecord, Losses, Machine, Manifest};
use crate::{
    Outcome, StepMetrics, TrainConfig, TrainError, TrainPlan, Trained, WindowBatches, evaluate, train,
};

/// Validation windows for each domain where the configuration names no number.
const EVALUATION_WINDOWS: usize = 16;

/// How a call of [`run`] ended.
#[derive(Debug)]
pub enum RunOutcome {
    /// The folder is complete.
    Done(Box<Manifest>),
    /// It was stopped; the same call goes on from here.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// Carries out a configuration: the folder becomes a Hugging Face folder with `tokenizer.json`, `metrics.parquet` and
/// `run.json`.
///
/// A folder that already holds this very run is left as it is and answered from its manifest; one that holds another run is
/// an error. `origin` names program and machine in the manifest.
///
/// # Errors
/// [`TrainError`]; the message says what to do, and the same call goes on from the last resume state.
pub fn run(
    config: &TrainConfig,
    folder: &Path,
    origin: Origin,
    watch: &mut dyn FnMut(&StepMetrics),
    stop: &AtomicBool,
) -> Result<RunOutcome, TrainError> {
    // Before the text is read, with the fewest tokens that a tokenizer of a file can have.
    config.plan(config.least_vocabulary()).require_memory()?;
    let text = Text::load(config)?;
    let plan = config.plan(text.tokenizer.vocabulary());
    let data = text.record(config);
    if let Some(manifest) = finished(folder, &plan, &data)? {
        return Ok(RunOutcome::Done(Box::new(manifest)));
    }
    let seed = Seed(config.training.seed);
    let batches = WindowBatches::new(text.training.clone(), seed, plan.batch, config.domain_balance())?;
    let mut timer = Timer { started: Instant::now(), steps: 0 };
    let mut counting = |row: &StepMetrics| {
        timer.steps += 1;
        watch(row);
    };
    let trained = match train(&plan, &batches, Some(folder), &mut counting, stop)? {
        Outcome::Done(trained) => trained,
        Outcome::Interrupted { step } => return Ok(RunOutcome::Interrupted { step }),
    };
    text.save_tokenizer(folder)?;
    let manifest = Manifest {
        schema: Manifest::SCHEMA,
        origin,
        counts: plan.description.counts(),
        losses: text.losses(&trained, plan.batch)?,
        machine: timer.machine(&plan),
        data,
        plan,
        files: Manifest::hash_files(folder)?,
    };
    manifest.save(folder)?;
    Ok(RunOutcome::Done(Box::new(manifest)))
}

/// The manifest of a folder that holds this run already, with the files that it wrote.
fn finished(folder: &Path, plan: &TrainPlan, data: &DataRecord) -> Result<Option<Manifest>, TrainError> {
    let Some(manifest) = Manifest::open(folder)? else { return Ok(None) };
    let mut differing = differences(&manifest.plan, plan);
    differing.extend(
        differences(&manifest.data, data).into_iter().map(|difference| format!("data: {difference}")),
    );
    if differing.is_empty() {
        require_files(folder, &manifest)?;
        return Ok(Some(manifest));
    }
    Err(TrainError::OtherPlan { path: folder.join("run.json"), differences: differing.join(", ") })
}

/// Refuses a finished run whose model was cut short, exchanged or deleted since.
fn require_files(folder: &Path, manifest: &Manifest) -> Result<(), TrainError> {
    for (name, wanted) in &manifest.files {
        let path = folder.join(name);
        let found = std::fs::read(&path).map(|bytes| blake3::hash(&bytes).to_hex().to_string());
        if found.ok().as_ref() != Some(wanted) {
            return Err(TrainError::NotWhatWasTrained { path, folder: folder.to_owned() });
        }
    }
    Ok(())
}

/// Time taken by training alone.
struct Timer {
    started: Instant,
    steps: u64,
}

impl Timer {
    fn machine(&self, plan: &TrainPlan) -> Machine {
        let seconds = self.started.elapsed().as_secs_f64();
        Machine {
            threads: rayon::current_num_threads(),
            steps: self.steps,
            seconds,
            tokens_per_second: self.steps as f64 * plan.tokens_per_step() as f64 / seconds,
        }
    }
}

/// The text of a run, cut into windows.
struct Text {
    tokenizer: Tokenizer,
    training: WindowSet,
    validation: WindowSet,
}

impl Text {
    fn load(config: &TrainConfig) -> Result<Text, TrainError> {
        let DataConfig { corpus, vocabulary, positions, .. } = &config.data;
        let prepared = PreparedText::cut(&Corpus::named(corpus)?, vocabulary, *positions)?;
        let held_out = prepared.validation;
        let available = (0..held_out.domains()).map(|domain| held_out.windows_in(domain)).min().unwrap_or(0);
        let per_domain = config.data.evaluation_windows.unwrap_or(EVALUATION_WINDOWS.min(available));
        let validation = held_out.evaluation(per_domain)?;
        Ok(Text { tokenizer: prepared.tokenizer, training: prepared.training, validation })
    }

    fn record(&self, config: &TrainConfig) -> DataRecord {
        DataRecord {
            corpus: config.data.corpus.display().to_string(),
            domains: self.training.domain_names().to_vec(),
            vocabulary: self.tokenizer.vocabulary(),
            tokenizer_hash: self.tokenizer.hash(),
            training_hash: self.training.hash(),
            validation_hash: self.validation.hash(),
            proportional: config.data.proportional,
            training_tokens: (self.training.len() * self.training.length()) as u64,
            unigram_entropy: self.validation.token_set().unigram_entropy(),
        }
    }

    fn losses(&self, trained: &Trained, batch: usize) -> Result<Losses, TrainError> {
        let windows: Vec<usize> = (0..self.validation.len()).collect();
        let found = evaluate(&trained.model, &self.validation.batch(&windows)?, batch)?;
        let per_window = self.validation.length() - 1;
        let of_domain = |domain: usize| {
            let first = self.validation.first_window(domain) * per_window;
            let losses = &found.losses[first..first + self.validation.windows_in(domain) * per_window];
            losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64
        };
        let names = self.validation.domain_names().iter().cloned().enumerate();
        let by_domain: BTreeMap<String, f64> =
            names.map(|(domain, name)| (name, of_domain(domain))).collect();
        Ok(Losses {
            training: trained.metrics.last().map_or(f64::NAN, |row| row.loss),
            validation: found.mean_loss(),
            validation_by_domain: by_domain,
            validation_accuracy: found.accuracy(),
            validation_predictions: found.predictions,
        })
    }

    /// Writes `tokenizer.json`, and the file by which transformers finds out how to read it.
    fn save_tokenizer(&self, folder: &Path) -> Result<(), TrainError> {
        self.tokenizer.save(&folder.join("tokenizer.json"))?;
        let class = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.training.length(),
            "eos_token": self.tokenizer.end().map(|id| self.tokenizer.text(id)),
        });
        let mut json = class.to_string();
        json.push('\n');
        Ok(replace(&folder.join("tokenizer_config.json"), |file| file.write_all(json.as_bytes()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_metrics;
    use moescope_model::Model;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::Ordering;

    /// A corpus folder with two domains and the configuration of a tiny run on it.
    fn set_up(folder: &Path) -> (TrainConfig, PathBuf) {
        for (domain, animal) in [("cats", "cat"), ("dogs", "dog")] {
            let corpus = folder.join("corpus").join(domain);
            fs::create_dir_all(&corpus).unwrap();
            let line =
                |number| format!("The {animal} number {number} saw {} other {animal}s.", number * 7 % 31);
            fs::write(corpus.join("text.txt"), (0..600).map(line).collect::<Vec<_>>().join("\n\n")).unwrap();
        }
        let text = format!(
            "[model]\nfamily = \"moe\"\nd_model = 16\nlayers = 1\nheads = 2\nd_ff = 32\nexpansion = 2\ngranularity = 2\n\
             [data]\ncorpus = {:?}\nvocab = 300\npositions = 16\n\
             [training]\nsteps = 12\nbatch = 4\nlearning_rate = 1e-2\nseed = 1\nsave_every = 5\n",
            folder.join("corpus")
        );
        (TrainConfig::parse(&text, "run.toml").unwrap(), folder.join("run"))
    }

    fn go(config: &TrainConfig, folder: &Path, last: u64) -> Result<RunOutcome, TrainError> {
        let stop = AtomicBool::new(false);
        let mut watch = |row: &StepMetrics| stop.store(row.step >= last, Ordering::Relaxed);
        run(config, folder, Origin::here("test", None), &mut watch, &stop)
    }

    #[test]
    fn a_run_makes_a_whole_folder_and_is_repeated_by_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (config, folder) = set_up(place.path());
        assert!(matches!(go(&config, &folder, 7).unwrap(), RunOutcome::Interrupted { step: 7 }));
        let RunOutcome::Done(manifest) = go(&config, &folder, u64::MAX).unwrap() else {
            panic!("not stopped")
        };
        assert_eq!(manifest.machine.steps, 5);
        assert_eq!(manifest.losses.validation_by_domain.len(), 2);
        let mean = manifest.losses.validation_by_domain.values().sum::<f64>() / 2.0;
        assert!((manifest.losses.validation - mean).abs() < 1e-6); // domains of equal size
        assert_eq!(read_metrics(&folder.join("metrics.parquet")).unwrap().len(), 12);
        let model = Model::open(&folder).unwrap();
        assert_eq!(
            model.description().vocab,
            Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap().vocabulary()
        );
        assert_eq!(Manifest::open(&folder).unwrap().as_ref(), Some(manifest.as_ref()));
        let RunOutcome::Done(again) = go(&config, &folder, 0).unwrap() else { panic!("it was finished") };
        assert_eq!(again, manifest);
    }

    #[test]
    fn a_finished_run_whose_files_were_damaged_is_not_taken_for_done() {
        let place = tempfile::tempdir().unwrap();
        let (config, folder) = set_up(place.path());
        go(&config, &folder, u64::MAX).unwrap();
        for name in ["model.safetensors", "config.json", "tokenizer.json"] {
            let path = folder.join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            let error = go(&config, &folder, u64::MAX).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("cut short or changed"), "{error}");
            fs::remove_file(&path).unwrap();
            assert!(go(&config, &folder, u64::MAX).is_err());
            fs::write(&path, whole).unwrap();
        }
        assert!(matches!(go(&config, &folder, 0).unwrap(), RunOutcome::Done(_)));
    }

    #[test]
    fn a_folder_of_another_run_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (mut config, folder) = set_up(place.path());
        config.training.steps = 6;
        go(&config, &folder, u64::MAX).unwrap();
        config.training.learning_rate = 0.5;
        let error = go(&config, &folder, u64::MAX).unwrap_err().to_string();
        assert!(
            error.contains("run.json belongs to another plan") && error.contains("`learning_rate`"),
            "{error}"
        );
    }
}

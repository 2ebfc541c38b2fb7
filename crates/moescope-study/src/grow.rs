//! One run from nothing to its measurements: trained, saved, measured, each stage kept on disk.
//!
//! Stages are found done by their files: `measures.json` means that nothing is left to do, `run.json` that the model
//! is whole, and a resume state that training can go on from a step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use moescope_base::Seed;
use moescope_corpus::tasks::Task;
use moescope_host::{Origin, hash_file};
use moescope_model::{Description, Model};
use moescope_train::{Batches, Outcome, StepMetrics, TaskBatches, TrainError, TrainPlan, train};

use crate::dataset::Dataset;
use crate::folder::StudyFolder;
use crate::measure::Measures;
use crate::progress::Progress;
use crate::roster::{Rate, Run, Workload};
use crate::tasks::{task_of, task_seed};
use crate::{StudyConfig, StudyError};

/// The weights in the folder of a run.
const WEIGHTS: &str = "model.safetensors";

/// Steps between two reports of progress.
/// They are for people; no result depends on the number.
const REPORT_STEPS: u64 = 10;

/// Grows models and measures them. Shared by all worker threads: it holds references only, and each run writes to a
/// folder of its own.
pub(crate) struct Grower<'a, 'p> {
    pub(crate) config: &'a StudyConfig,
    pub(crate) folder: &'a StudyFolder,
    pub(crate) dataset: &'a Dataset,
    pub(crate) tasks: &'a BTreeMap<Workload, Task>,
    pub(crate) progress: &'a Progress<'p>,
    pub(crate) stop: &'a AtomicBool,
}

impl Grower<'_, '_> {
    /// The measurements on a run: read if they are there, otherwise made and kept.
    ///
    /// `work` is the share of the run in the progress, in FLOPs; six sevenths are training, as estimated by
    /// [`Run::work`].
    ///
    /// # Errors
    /// [`StudyError::Interrupted`] once the stop flag is set during training; otherwise whatever training, an
    /// instrument or the disk fails with, with the name of the run. A model that is whole stays in its folder in any case.
    pub(crate) fn measured(&self, run: &Run, work: f64) -> Result<Measures, StudyError> {
        self.found_or_made(run, work).map_err(|error| error.in_run(run))
    }

    fn found_or_made(&self, run: &Run, work: f64) -> Result<Measures, StudyError> {
        let path = self.folder.run(run).join("measures.json");
        if let Some(found) = self.folder.read_kept::<Measures>(&path)? {
            // A run that blew up has left no model.
            if found.diverged.is_none() {
                self.require_unchanged(run)?;
            }
            self.progress.skip(work);
            return Ok(found);
        }
        let measures = self.folder.kept(&path, || {
            let model = match self.model(run, work * 6.0 / 7.0) {
                Err(StudyError::Train(TrainError::Diverged { step, .. })) if run.rate != Rate::Base => {
                    let drawn = Model::initialise(self.plan(run).description, Seed(run.seed))?;
                    return Ok(Measures::blown_up(&drawn, step));
                }
                model => model?,
            };
            self.progress.advance(&run.to_string(), "measuring".into(), 0.0);
            let measures = Measures::of(run, model, self.config, self.dataset, self.tasks)?;
            self.progress.advance(&run.to_string(), "measured".into(), work / 7.0);
            Ok(measures)
        })?;
        self.progress.finished(&run.to_string(), measures.summary());
        Ok(measures)
    }

    /// The model of a run: opened if it is there, otherwise grown and kept.
    ///
    /// The manifest decides, not the weights: it is written last, so weights without it may be those of a training
    /// that was stopped.
    fn model(&self, run: &Run, work: f64) -> Result<Model, StudyError> {
        let folder = self.folder.run(run);
        if folder.join("run.json").exists() {
            self.require_unchanged(run)?;
            self.progress.skip(work);
            return Ok(Model::open(&folder)?);
        }
        let plan = self.plan(run);
        let model = if run.untrained {
            Model::initialise(plan.description.clone(), Seed(run.seed))?
        } else {
            self.train(run, &plan, work)?
        };
        model.save(&folder)?;
        self.manifest(run, &plan)?;
        Ok(model)
    }

    /// Refuses weights that are not those whose hash the manifest has: truncated, or exchanged for those of another model,
    /// which would open as well and be measured as if they had been grown here. Likewise a language model of other text: the
    /// configuration names corpus and tokenizer, and what lies there may have changed since.
    fn require_unchanged(&self, run: &Run) -> Result<(), StudyError> {
        let folder = self.folder.run(run);
        let weights = folder.join(WEIGHTS);
        let changed = |path: &Path, reason: String| StudyError::Changed {
            path: path.to_owned(),
            run: folder.clone(),
            reason,
        };
        let manifest = folder.join("run.json");
        let written: serde_json::Value =
            self.folder.read_json(&manifest)?.ok_or_else(|| changed(&manifest, "it is not there".into()))?;
        let text = written["training_tokens"].as_str().unwrap_or("none");
        if run.workload == Workload::Language && text != self.dataset.facts().training_hash {
            return Err(StudyError::OtherText {
                run: run.to_string(),
                found: text.to_owned(),
                wanted: self.dataset.facts().training_hash.clone(),
            });
        }
        let wanted = written["weights"].as_str().unwrap_or("none");
        let found = hash_file(&weights).map_err(|error| changed(&weights, error.to_string()))?;
        if found != wanted {
            return Err(changed(&weights, format!("its BLAKE3 hash is {found}, and run.json has {wanted}")));
        }
        Ok(())
    }

    /// How the run is trained, with vocabulary and window length of its workload.
    fn plan(&self, run: &Run) -> TrainPlan {
        let (vocab, positions) = match task_of(self.tasks, run.workload) {
            Some(task) => (task.vocabulary(), task.positions()),
            None => (self.dataset.facts().vocabulary, self.config.data.positions),
        };
        self.config.train_plan(run, vocab, positions)
    }

    /// Trains the model in the folder of the run, from the last resume point if there is one, and tells the progress.
    ///
    /// Language runs of one seed see the same windows in the same order whatever their family; task runs draw from a
    /// seed that their test shares.
    fn train(&self, run: &Run, plan: &TrainPlan, work: f64) -> Result<Model, StudyError> {
        let batches: Box<dyn Batches> = match task_of(self.tasks, run.workload) {
            Some(task) => Box::new(TaskBatches::new(task.clone(), task_seed(run.seed), plan.batch)?),
            None => Box::new(self.dataset.batches(run.seed, plan.batch)?),
        };
        let name = run.to_string();
        let mut watch = |metrics: &StepMetrics| {
            let step = metrics.step;
            let since = step - (step - 1) / REPORT_STEPS * REPORT_STEPS;
            if since == REPORT_STEPS || step == plan.steps {
                let state = format!("step {step}/{}, loss {:.3}", plan.steps, metrics.loss);
                self.progress.advance(&name, state, work * since as f64 / plan.steps as f64);
            }
        };
        match train(plan, batches.as_ref(), Some(&self.folder.run(run)), &mut watch, self.stop)? {
            Outcome::Done(trained) => Ok(trained.model),
            Outcome::Interrupted { .. } => Err(StudyError::Interrupted { done: 0, all: 0 }),
        }
    }

    /// Writes `tokenizer.json` for language runs and, last of all, `run.json`, which marks the model as whole. The
    /// manifest says what made the model: run, plan, counts, hashes of text, tokenizer and weights, program and machine.
    fn manifest(&self, run: &Run, plan: &TrainPlan) -> Result<(), StudyError> {
        let folder = self.folder.run(run);
        if run.workload == Workload::Language {
            self.dataset.tokenizer().save(&folder.join("tokenizer.json"))?;
        }
        let manifest = serde_json::json!({
            "schema": 1,
            "run": run,
            "name": run.to_string(),
            "plan": plan,
            "counts": counts_json(&plan.description),
            "training_tokens": self.dataset.facts().training_hash,
            "tokenizer": self.dataset.facts().tokenizer_hash,
            "weights": hash_file(&folder.join(WEIGHTS))?,
            "origin": Origin::here(env!("CARGO_PKG_VERSION"), crate::COMMIT),
        });
        let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
        self.folder.write_text(&folder.join("run.json"), &(text + "\n"))
    }
}

/// Exact counts of the model, by arithmetic on its description, for readers who do not open the weights.
fn counts_json(description: &Description) -> serde_json::Value {
    let counts = description.counts();
    serde_json::json!({
        "parameters_total": counts.parameters_total,
        "parameters_active": counts.parameters_active,
        "flops_per_token": counts.flops_per_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;
    use crate::dataset::tests::small_study;
    use crate::tasks::tasks;

    /// Does something with the grower of a study in a folder.
    fn with_grower<T>(folder: &Path, config: &StudyConfig, then: impl FnOnce(&Grower<'_, '_>) -> T) -> T {
        let stop = AtomicBool::new(false);
        let dataset = Dataset::prepare(config, &stop).unwrap();
        let folder = StudyFolder::open(folder, config, true).unwrap();
        let mut listener = |_: &crate::Event| ();
        let progress = Progress::new(&mut listener, 1.0);
        let tasks = tasks().unwrap();
        let (dataset, tasks, progress, stop) = (&dataset, &tasks, &progress, &stop);
        then(&Grower { config, folder: &folder, dataset, tasks, progress, stop })
    }

    #[test]
    fn a_run_of_other_text_is_not_taken_for_one_of_this_study() {
        let scratch = tempfile::tempdir().unwrap();
        let (text, study) = (scratch.path().join("text"), scratch.path().join("study"));
        let config = small_study(&text, "word");
        let floor = Family::Dense { times: config.model.expansion };
        let run = Run { untrained: true, ..Run::language(floor, 1) };
        let first = with_grower(&study, &config, |grower| grower.measured(&run, 1.0)).unwrap();
        let again = with_grower(&study, &config, |grower| grower.measured(&run, 1.0)).unwrap();
        assert_eq!(first, again);
        // The same configuration, since it names the folder only; another text in it.
        let config = small_study(&text, "tale");
        let error = with_grower(&study, &config, |grower| grower.measured(&run, 1.0)).unwrap_err();
        assert!(matches!(error, StudyError::OtherText { .. }), "{error}");
        assert!(
            error.to_string().starts_with("run untrained-dense-2x.s1 was trained on other text"),
            "{error}"
        );
    }

    #[test]
    fn a_run_that_blows_up_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let mut config = small_study(&scratch.path().join("text"), "word");
        config.training.learning_rate = 1e30;
        let run = Run::language(Family::Dense { times: 1 }, 1);
        let study = scratch.path().join("study");
        let error = with_grower(&study, &config, |grower| grower.measured(&run, 1.0)).unwrap_err();
        assert!(matches!(error, StudyError::Diverged { .. }), "{error}");
        assert!(error.to_string().starts_with("run dense-1x.s1: step "), "{error}");
        // At a rate that is only tried, blowing up is an outcome: it is kept, and found again.
        let tried = Run { rate: Rate::Doubled, ..run };
        let [first, again] =
            [(); 2].map(|()| with_grower(&study, &config, |grower| grower.measured(&tried, 1.0)).unwrap());
        assert!(first.diverged.is_some() && first.language.is_none(), "{first:?}");
        assert_eq!(first, again);
    }
}

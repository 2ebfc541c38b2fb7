//! The course of a study: grow and measure every model, compare them, return everything measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use moescope_corpus::tasks::Task;

use crate::analyses::{Analysis, Asking};
use crate::compare::{Comparison, View};
use crate::dataset::Dataset;
use crate::folder::StudyFolder;
use crate::grow::Grower;
use crate::measure::Measures;
use crate::plan::Plan;
use crate::pool::work;
use crate::progress::{Event, Progress};
use crate::results::{Results, TaskFacts};
use crate::roster::{Rate, Run, Workload};
use crate::tasks::{task_of, tasks};
use crate::{Family, StudyConfig, StudyError};

/// A model has learned something if its validation loss is at most this share of the unigram entropy. What a model of token
/// frequencies alone reaches is 1; a model that merely approaches it has nothing inside worth looking at.
pub(crate) const LEARNED_SHARE: f64 = 0.95;

/// A study in its folder: from configuration to results, in steps that can be interrupted and taken up again.
///
/// It holds no model between steps; models lie in the folder and are opened where needed.
pub struct Study {
    config: StudyConfig,
    folder: StudyFolder,
    dataset: Dataset,
    tasks: BTreeMap<Workload, Task>,
}

impl Study {
    /// Opens a study: prepares its text, then checks or makes its folder. `resume` allows a folder that holds this
    /// study already; a new or empty one is fine either way.
    ///
    /// # Errors
    /// [`StudyError::Stopped`] once `stop` is set while the text is prepared; otherwise if the text cannot be read or does not
    /// suffice, or the folder is a file or holds something else.
    pub fn open(
        config: StudyConfig,
        out: &Path,
        resume: bool,
        stop: &AtomicBool,
    ) -> Result<Study, StudyError> {
        StudyFolder::require_place(out)?;
        // The text first: a study that cannot begin leaves no folder behind.
        let dataset = Dataset::prepare(&config, stop)?;
        let folder = StudyFolder::open(out, &config, resume)?;
        Ok(Study { config, folder, dataset, tasks: tasks()? })
    }

    /// The folder, for what is written beside the results: tables, report, answers.
    pub fn folder(&self) -> &StudyFolder {
        &self.folder
    }

    /// The configuration.
    pub fn config(&self) -> &StudyConfig {
        &self.config
    }

    /// The text, as every model of the study sees it.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// What the study will grow, for that many workers; without an estimate of time.
    ///
    /// # Errors
    /// None for the tasks of studies.
    pub fn plan(&self, workers: usize) -> Result<Plan, StudyError> {
        Plan::count(&self.config, self.dataset.facts().vocabulary, workers)
    }

    /// Runs what is not yet done, `workers` models at a time, and returns everything measured.
    ///
    /// The results do not depend on `workers`, nor on how often the study was interrupted.
    ///
    /// # Errors
    /// [`StudyError::Interrupted`] once `stop` is set; [`StudyError::NotLearned`] if a language model is not well
    /// below the unigram entropy; otherwise whatever failed. What is done is kept in every case.
    pub fn run(
        &self,
        workers: usize,
        listener: &mut (dyn FnMut(&Event) + Send),
        stop: &AtomicBool,
    ) -> Result<Results, StudyError> {
        let roster = self.config.roster();
        self.require_memory(&roster, workers)?;
        let total = roster.iter().map(|run| self.work_of(run)).sum();
        let progress = Progress::new(listener, total);
        let runs = self.grow_all(&roster, workers, &progress, stop)?;
        let comparisons = self.compare_all(workers, &progress, stop)?;
        let analyses = self.analyse_all(&roster, workers, &progress, stop)?;
        Ok(Results {
            config: self.config.clone(),
            dataset: self.dataset.facts().clone(),
            tasks: self.tasks.iter().map(|(workload, task)| (*workload, task_facts(task))).collect(),
            runs,
            comparisons,
            analyses,
        })
    }

    /// Refuses a study whose largest models, as many as train at once, do not fit into memory together.
    fn require_memory(&self, roster: &[Run], workers: usize) -> Result<(), StudyError> {
        let memory = |run: &Run| {
            let (vocab, positions) = self.sizes_of(run.workload);
            self.config.train_plan(run, vocab, positions).memory()
        };
        let mut needed: Vec<f64> = roster.iter().map(memory).collect();
        needed.sort_by(|a, b| b.total_cmp(a));
        let together = workers.clamp(1, needed.len().max(1));
        let what = format!("training {together} of the largest models of this study at once");
        let remedy = "make models or batches smaller, or take fewer `--threads`";
        Ok(moescope_host::require_memory(&what, needed.iter().take(together).sum(), remedy)?)
    }

    /// First stage: every run of the roster, grown and measured. Ends with the check that the models have learned, so
    /// that nothing is concluded from models that have not.
    fn grow_all(
        &self,
        roster: &[Run],
        workers: usize,
        progress: &Progress<'_>,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<Run, Measures>, StudyError> {
        progress.stage("growing and measuring models", roster.len());
        let grower = Grower {
            config: &self.config,
            folder: &self.folder,
            dataset: &self.dataset,
            tasks: &self.tasks,
            progress,
            stop,
        };
        let measures = work(roster, workers, stop, |run| grower.measured(run, self.work_of(run)))?;
        let runs: BTreeMap<Run, Measures> = roster.iter().copied().zip(measures).collect();
        self.require_learning(&runs)?;
        Ok(runs)
    }

    /// Work of a run in FLOPs, the unit of progress.
    fn work_of(&self, run: &Run) -> f64 {
        let (vocab, positions) = self.sizes_of(run.workload);
        run.work(&self.config.train_plan(run, vocab, positions))
    }

    /// Vocabulary and window length of a workload: those of the task, or of the text.
    fn sizes_of(&self, workload: Workload) -> (usize, usize) {
        match task_of(&self.tasks, workload) {
            Some(task) => (task.vocabulary(), task.positions()),
            None => (self.dataset.facts().vocabulary, self.config.data.positions),
        }
    }

    /// Refuses a study in which any trained language model has learned next to nothing; see [`LEARNED_SHARE`]. Models at
    /// other learning rates may fail: that is what they are tried for.
    fn require_learning(&self, runs: &BTreeMap<Run, Measures>) -> Result<(), StudyError> {
        let unigram = self.dataset.facts().unigram_entropy;
        let wanted = LEARNED_SHARE * unigram;
        for (run, measures) in runs.iter().filter(|(run, _)| !run.untrained && run.rate == Rate::Base) {
            if let Some(language) = measures.language.as_ref().filter(|l| l.loss > wanted) {
                return Err(StudyError::NotLearned {
                    run: run.to_string(),
                    loss: language.loss,
                    wanted,
                    unigram,
                });
            }
        }
        Ok(())
    }

    /// Second stage: one comparison for each seed, kept under `comparisons/`. It needs every language run of the seed
    /// and the wide model of the next one.
    fn compare_all(
        &self,
        workers: usize,
        progress: &Progress<'_>,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<u64, Comparison>, StudyError> {
        let seeds = self.config.seed_list();
        progress.stage("comparing models", seeds.len());
        let comparisons = work(&seeds, workers, stop, |seed| {
            let path = self.folder.root().join("comparisons").join(format!("s{seed}.json"));
            self.folder.kept(&path, || self.compare(*seed))
        })?;
        Ok(seeds.into_iter().zip(comparisons).collect())
    }

    /// Third stage: instruments of the case on every language model at the study's rate, kept in the folders of the runs.
    fn analyse_all(
        &self,
        roster: &[Run],
        workers: usize,
        progress: &Progress<'_>,
        stop: &AtomicBool,
    ) -> Result<Vec<Analysis>, StudyError> {
        let names = &self.config.instruments.case;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let runs: Vec<Run> = roster
            .iter()
            .copied()
            .filter(|run| run.workload == Workload::Language && run.rate == Rate::Base)
            .collect();
        let jobs: Vec<(&String, Run)> =
            names.iter().flat_map(|name| runs.iter().map(move |run| (name, *run))).collect();
        progress.stage("asking instruments of the case", jobs.len());
        let asking = Asking { config: &self.config, folder: &self.folder, dataset: &self.dataset };
        let found = work(&jobs, workers, stop, |(name, run)| {
            let path = self.folder.run(run).join("analyses").join(format!("{name}.json"));
            let found = self.folder.kept(&path, || asking.found(name, run));
            let found = found.map_err(|error| error.in_run(run))?;
            progress.finished(&format!("{run}, {name}"), found.in_words());
            Ok(found)
        })?;
        let mut found = runs.iter().copied().cycle().zip(found);
        let analysis = |name: &String| Analysis {
            instrument: name.clone(),
            runs: found.by_ref().take(runs.len()).collect(),
        };
        Ok(names.iter().map(analysis).collect())
    }

    /// Compares the models of a seed with the wide model of the next one, the last seed with the first.
    fn compare(&self, seed: u64) -> Result<Comparison, StudyError> {
        let seeds = self.config.seed_list();
        let place = seeds.iter().position(|s| *s == seed).expect("the seed comes from the list");
        let other = seeds[(place + 1) % seeds.len()];
        let wide = Family::Dense { times: self.config.model.expansion };
        let primary = Family::Moe { granularity: self.config.model.primary_granularity };
        let passes = self.dataset.validation_passes()?;
        let view = |family, seed, untrained| {
            let run = Run { untrained, ..Run::language(family, seed) };
            let mut subject =
                moescope_model::ModelSubject::new(moescope_model::Model::open(&self.folder.run(&run))?);
            View::of(&mut subject, &passes, &self.config)
        };
        let other_wide = view(wide, other, false)?;
        let moe = view(primary, seed, false)?;
        Ok(Comparison {
            moe_wide: moe.compare(&other_wide)?,
            wide_wide: view(wide, seed, false)?.compare(&other_wide)?,
            moe_untrained: moe.compare(&view(wide, other, true)?)?,
            topk_wide: view(Family::TopKDense, seed, false)?.compare(&other_wide)?,
            dense_wide: view(Family::Dense { times: 1 }, seed, false)?.compare(&other_wide)?,
        })
    }
}

/// What the answers need to know about a task.
fn task_facts(task: &Task) -> TaskFacts {
    TaskFacts { chance_accuracy: task.chance_accuracy(), vocabulary: task.vocabulary() }
}

//! Everything that a study measured, and the ways in which the questions ask for it.
//!
//! The questions pick numbers by workload and family and get one value for each seed, always in the order of the
//! seeds, so that subtracting two lists pairs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::analyses::Analysis;
use crate::compare::Comparison;
use crate::dataset::DatasetFacts;
use crate::measure::Measures;
use crate::roster::{Rate, Run, Workload};
use crate::{Family, StudyConfig};

/// Everything a study measured, from which its answers follow without looking at a model again.
#[derive(Clone, Debug)]
pub struct Results {
    /// What was asked for. Sizes, margins and seeds are read from here.
    pub config: StudyConfig,
    /// The text: domains, sizes, hashes, and the unigram entropy below which learning begins.
    pub dataset: DatasetFacts,
    /// What chance reaches on the synthetic tasks.
    pub tasks: BTreeMap<Workload, TaskFacts>,
    /// Measurements on single models; untrained ones are in it too.
    pub runs: BTreeMap<Run, Measures>,
    /// Comparisons of models, by seed.
    pub comparisons: BTreeMap<u64, Comparison>,
    /// What instruments of the case found, in the order of the configuration; no answer rests on them.
    pub analyses: Vec<Analysis>,
}

/// What is known about a synthetic task before any model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFacts {
    /// Accuracy of guessing, from 0 to 1: the null of every accuracy on the task.
    pub chance_accuracy: f64,
    /// Entries of its vocabulary.
    pub vocabulary: usize,
}

impl Results {
    /// The measurements on the trained model of a family, for each seed in order. A seed without such a run is left
    /// out, so the list is shorter than the seeds if the family is not in the study.
    pub fn of(&self, workload: Workload, family: Family) -> Vec<&Measures> {
        let run = |seed| Run { workload, ..Run::language(family, seed) };
        self.config.seed_list().into_iter().filter_map(|seed| self.runs.get(&run(seed))).collect()
    }

    /// One number of a family for each seed: `[seed]`, NaN where the measurement does not apply.
    pub fn values(
        &self,
        workload: Workload,
        family: Family,
        pick: impl Fn(&Measures) -> Option<f64>,
    ) -> Vec<f64> {
        self.of(workload, family).into_iter().map(|m| pick(m).unwrap_or(f64::NAN)).collect()
    }

    /// One number of a language model for each seed, as in [`Results::values`].
    pub fn language(&self, family: Family, pick: impl Fn(&Measures) -> Option<f64>) -> Vec<f64> {
        self.values(Workload::Language, family, pick)
    }

    /// Validation loss of a language family at a learning rate: `[seed]`, in nats per token. Empty for families that
    /// were trained at the rate of the study only.
    pub fn loss_at(&self, family: Family, rate: Rate) -> Vec<f64> {
        let run = |seed| Run { rate, ..Run::language(family, seed) };
        let seeds = self.config.seed_list().into_iter();
        seeds.filter_map(|seed| self.runs.get(&run(seed)).map(|m| loss(m).unwrap_or(f64::NAN))).collect()
    }

    /// Models of a language family whose training blew up at a learning rate.
    pub fn diverged_at(&self, family: Family, rate: Rate) -> usize {
        let run = |seed| Run { rate, ..Run::language(family, seed) };
        let seeds = self.config.seed_list().into_iter();
        seeds.filter(|seed| self.runs.get(&run(*seed)).is_some_and(|m| m.diverged.is_some())).count()
    }

    /// The rate at which a family has the lowest mean validation loss, among those it was trained at
    /// without a single model blowing up.
    ///
    /// Chosen on the text that the loss is then quoted for, which flatters each family by about as much.
    pub fn best_rate(&self, family: Family) -> Rate {
        let at = |rate: &Rate| mean(&self.loss_at(family, *rate));
        let tried = [Rate::Base, Rate::Halved, Rate::Doubled];
        let known = tried.into_iter().filter(|rate| at(rate).is_finite());
        known.min_by(|a, b| at(a).total_cmp(&at(b))).unwrap_or_default()
    }

    /// Whether either of two families does best at another rate than that of the study.
    pub fn best_rates_differ(&self, a: Family, b: Family) -> bool {
        [a, b].into_iter().any(|family| self.best_rate(family) != Rate::Base)
    }

    /// Validation losses at the best rate of each of two families, `a − b`: `[seed]`.
    pub fn difference_at_best_rates(&self, a: Family, b: Family) -> Vec<f64> {
        subtract(&self.loss_at(a, self.best_rate(a)), &self.loss_at(b, self.best_rate(b)))
    }

    /// The difference `a − b` of one number between two families of language models: `[seed]`, paired by seed, NaN
    /// where either is missing.
    pub fn difference(
        &self,
        a: Family,
        b: Family,
        pick: impl Fn(&Measures) -> Option<f64> + Copy,
    ) -> Vec<f64> {
        subtract(&self.language(a, pick), &self.language(b, pick))
    }

    /// One number of the comparisons for each seed in order.
    pub fn compared(&self, pick: impl Fn(&Comparison) -> f64) -> Vec<f64> {
        self.comparisons.values().map(pick).collect()
    }

    /// The granular MoE that stands for the others in comparisons.
    pub fn primary(&self) -> Family {
        Family::Moe { granularity: self.config.model.primary_granularity }
    }

    /// Dense, of the width of all experts together.
    pub fn wide(&self) -> Family {
        Family::Dense { times: self.config.model.expansion }
    }
}

/// Validation loss of a language model in nats per token, every domain weighing equally; none for task runs.
pub(crate) fn loss(measures: &Measures) -> Option<f64> {
    measures.language.as_ref().map(|l| l.loss)
}

/// Entry by entry `a − b`: `[seed]`. Lists of different lengths are cut to the shorter one.
pub(crate) fn subtract(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Arithmetic mean; NaN of an empty list and of one that holds NaN.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

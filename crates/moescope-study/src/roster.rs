//! The grid of a study: which models are grown, how each is trained, and how much work it is.

use std::fmt;

use moescope_train::{Balance, Schedule, TrainPlan};
use serde::{Deserialize, Serialize};

use crate::{Family, StudyConfig};

/// One model of a study: a family, a repetition, and what it learns. Its text form, such as `moe-g4.s1`, is the name
/// of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run {
    /// What it learns.
    pub workload: Workload,
    /// Kind of model.
    pub family: Family,
    /// Repetition: decides weights and order of the data. Families of one seed see the same windows in the same
    /// order.
    pub seed: u64,
    /// Whether it is measured as drawn, without training: the floor of every comparison.
    pub untrained: bool,
    /// Learning rate beside that of the study.
    pub rate: Rate,
}

/// Learning rate of a run beside the one that its study trains everything with. The other two are there to see
/// whether a finding hangs on that one rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// Half of it.
    Halved,
    /// The rate of the study.
    #[default]
    Base,
    /// Twice of it.
    Doubled,
}

impl Rate {
    /// All of them, ascending.
    pub const ALL: [Rate; 3] = [Rate::Halved, Rate::Base, Rate::Doubled];

    /// What the rate of the study is multiplied with.
    pub fn factor(self) -> f64 {
        match self {
            Rate::Halved => 0.5,
            Rate::Base => 1.0,
            Rate::Doubled => 2.0,
        }
    }
}

/// What a model learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// The corpus: next-token prediction on text.
    Language,
    /// Key–value pairs recalled in context: what is asked for stands earlier in the sequence.
    Recall,
    /// Random facts, memorised: nothing can be inferred, so the answers measure capacity.
    Facts,
    /// Arithmetic modulo a prime, with held-out pairs: answers ask for a rule, not for memory.
    Arithmetic,
}

impl Workload {
    /// The synthetic tasks.
    pub const TASKS: [Workload; 3] = [Workload::Recall, Workload::Facts, Workload::Arithmetic];

    /// Short name, the prefix of task runs in folder names.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Language => "language",
            Workload::Recall => "recall",
            Workload::Facts => "facts",
            Workload::Arithmetic => "arithmetic",
        }
    }
}

impl Run {
    /// The run of a language family as every comparison takes it: trained, at the rate of the study.
    pub(crate) fn language(family: Family, seed: u64) -> Run {
        Run { workload: Workload::Language, family, seed, untrained: false, rate: Rate::Base }
    }

    /// Name of the run without its seed and its learning rate, which change neither sizes nor work.
    pub(crate) fn kind(&self) -> String {
        let workload = match self.workload {
            Workload::Language => String::new(),
            task => format!("{}-", task.name()),
        };
        let untrained = if self.untrained { "untrained-" } else { "" };
        format!("{workload}{untrained}{}", self.family)
    }

    /// Work of the run in FLOPs: training costs three forward passes, and measuring about a sixth of that again.
    ///
    /// An estimate for progress and plan only. Untrained models count as nothing, though measuring their loss takes a
    /// moment.
    pub(crate) fn work(&self, plan: &TrainPlan) -> f64 {
        if self.untrained {
            return 0.0;
        }
        let tokens = plan.steps * (plan.batch * plan.positions) as u64;
        let counted = plan.description.counts().flops_per_token as f64;
        3.0 * tokens as f64 * counted * 7.0 / 6.0
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = match self.rate {
            Rate::Halved => "-half-rate",
            Rate::Base => "",
            Rate::Doubled => "-double-rate",
        };
        write!(f, "{}{rate}.s{}", self.kind(), self.seed)
    }
}

impl StudyConfig {
    /// Seeds of the repetitions, ascending from `first_seed`.
    pub fn seed_list(&self) -> Vec<u64> {
        (self.first_seed..self.first_seed + self.seeds).collect()
    }

    /// Families trained on the corpus: dense widths, the sweep of granularities, then the controls at the primary
    /// granularity.
    pub fn language_families(&self) -> Vec<Family> {
        let granularity = self.model.primary_granularity;
        let dense = self.model.dense_widths.iter().map(|times| Family::Dense { times: *times });
        let sweep =
            self.model.granularities.iter().map(|granularity| Family::Moe { granularity: *granularity });
        let controls = [
            Family::TopKDense,
            Family::Renormalised { granularity },
            Family::Hash { granularity },
            Family::Frozen { granularity },
            Family::Random { granularity },
            Family::Committee { granularity },
        ];
        dense.chain(sweep).chain(controls).collect()
    }

    /// Families that are trained at every [`Rate`]: those between which granularity and routing are judged.
    pub fn rate_families(&self) -> [Family; 3] {
        let granularity = self.model.primary_granularity;
        [Family::Dense { times: 1 }, Family::Moe { granularity: 1 }, Family::Moe { granularity }]
    }

    /// Every model of the study, seed by seed, so that an interrupted study has whole repetitions first.
    pub fn roster(&self) -> Vec<Run> {
        self.seed_list().into_iter().flat_map(|seed| self.roster_of(seed)).collect()
    }

    /// One repetition: every language family, some at other rates too, one untrained wide model as the floor of
    /// similarity, and for each task the dense model and the granularities compared.
    fn roster_of(&self, seed: u64) -> Vec<Run> {
        let trained = self.language_families().into_iter().map(|family| Run::language(family, seed));
        let rates = self.rate_families().into_iter().flat_map(|family| {
            [Rate::Halved, Rate::Doubled].map(|rate| Run { rate, ..Run::language(family, seed) })
        });
        let floor = Family::Dense { times: self.model.expansion };
        let untrained = Run { untrained: true, ..Run::language(floor, seed) };
        let tasks = Workload::TASKS.into_iter().flat_map(|workload| {
            let families = self.tasks.granularities.iter().map(|g| Family::Moe { granularity: *g });
            let families: Vec<Family> = [Family::Dense { times: 1 }].into_iter().chain(families).collect();
            families.into_iter().map(move |family| Run { workload, ..Run::language(family, seed) })
        });
        trained.chain(rates).chain([untrained]).chain(tasks).collect()
    }

    /// How a run is trained; `vocab` and `positions` belong to its workload.
    ///
    /// Optimiser constants that no study varies stand here: β₁ 0.9, β₂ 0.95, gradient norm clipped at 1. The tasks
    /// take the balance losses and the weight decay of the language runs.
    pub fn train_plan(&self, run: &Run, vocab: usize, positions: usize) -> TrainPlan {
        let (steps, batch, learning_rate) = match run.workload {
            Workload::Language => (self.training.steps, self.training.batch, self.training.learning_rate),
            _ => (self.tasks.steps, self.tasks.batch, self.tasks.learning_rate),
        };
        // The tasks keep the proportions of the language schedule.
        let share = |part: u64| part * steps / self.training.steps;
        TrainPlan {
            description: run.family.description(self, vocab, positions, run.seed),
            seed: run.seed,
            steps,
            batch,
            positions,
            learning_rate: learning_rate * run.rate.factor() as f32,
            schedule: Schedule::Trapezoid {
                warmup: share(self.training.warmup),
                decay: share(self.training.decay),
            },
            weight_decay: self.training.weight_decay,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            clip: 1.0,
            balance: Balance { loss: self.training.balance, z_loss: self.training.z_loss, loss_free: None },
            checkpoints: Vec::new(),
            save_every: (steps > RESUME_STEPS).then_some(RESUME_STEPS),
            recompute: false,
        }
    }
}

/// Steps between resume points; shorter runs are repeated from their beginning, with the same result.
const RESUME_STEPS: u64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_have_as_many_models_as_the_documents_say() {
        for (name, models) in [("smoke", 56), ("quick", 87), ("standard", 180)] {
            let config = StudyConfig::parse(StudyConfig::preset_text(name).unwrap(), name).unwrap();
            assert_eq!(config.roster().len(), models, "{name}");
        }
    }

    #[test]
    fn names_are_distinct_and_every_seed_has_the_same_families() {
        let config = StudyConfig::parse(StudyConfig::preset_text("quick").unwrap(), "quick").unwrap();
        let roster = config.roster();
        let names: std::collections::BTreeSet<String> = roster.iter().map(Run::to_string).collect();
        assert_eq!(names.len(), roster.len());
        assert_eq!(roster.len() % config.seeds as usize, 0);
        assert!(
            names.contains("moe-g4.s1")
                && names.contains("facts-moe-g1.s3")
                && names.contains("untrained-dense-4x.s2")
                && names.contains("moe-g1-double-rate.s2")
        );
    }
}

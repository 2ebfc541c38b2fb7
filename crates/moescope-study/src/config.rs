use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::StudyError;

/// Everything that decides a study, as read from its TOML file. There are no hidden defaults: two studies with equal
/// configurations, program versions and corpora give equal answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
    /// Name, shown in the report.
    pub name: String,
    /// Independent repetitions: each has its own weights and its own order of the data.
    pub seeds: u64,
    /// Seed of the first repetition; the others follow by one.
    pub first_seed: u64,
    /// Sizes of the models.
    pub model: ModelSizes,
    /// Text.
    pub data: DataChoice,
    /// How language models are trained.
    pub training: Training,
    /// The synthetic tasks of question 5.
    pub tasks: TaskTraining,
    /// How much the instruments look at.
    pub instruments: Instruments,
    /// Differences that count as none, fixed before any result is seen.
    pub margins: Margins,
}

/// Sizes that all families of a study share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSizes {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Feed-forward width that is active for each token, in every family but the wider dense ones.
    pub d_ff: usize,
    /// Total over active feed-forward width of the sparse families (E).
    pub expansion: usize,
    /// Granularities of the sweep, in the Warsaw definition: `d_ff` over the width of one expert.
    pub granularities: Vec<usize>,
    /// Granularity of the routing controls and of the comparisons with dense models.
    pub primary_granularity: usize,
    /// Widths of the dense models, in multiples of `d_ff`. Must hold 1 and the expansion, and three values or more.
    pub dense_widths: Vec<usize>,
}

/// Which text, and how it is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataChoice {
    /// `embedded`, or a folder with one sub-folder for each domain.
    pub corpus: PathBuf,
    /// Entries of the byte-level vocabulary that is trained on the training split.
    pub vocabulary: usize,
    /// Tokens in a window.
    pub positions: usize,
    /// Validation windows for each domain.
    pub evaluation_windows: usize,
}

/// How every language model of the study is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Optimiser steps.
    pub steps: u64,
    /// Windows in a step.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps of linear decay at the end.
    pub decay: u64,
    /// Decoupled weight decay of the matrices.
    pub weight_decay: f32,
    /// Coefficient of the balance loss, already divided by the number of chosen experts.
    pub balance: f32,
    /// Coefficient of the router's z-loss.
    pub z_loss: f32,
}

/// How the models of the synthetic tasks are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskTraining {
    /// Granularities compared; must hold 1 and at least one other.
    pub granularities: Vec<usize>,
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences in a step.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f32,
}

/// How much the instruments look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instruments {
    /// Tokens for probes and for similarity of representations.
    pub probe_tokens: usize,
    /// Single-position edits for the attribution test.
    pub attribution_edits: usize,
    /// Shuffles behind each permutation null.
    pub permutations: usize,
    /// Numbers of expert sets that a layer may still use in the restriction of paths.
    pub restriction: Vec<usize>,
}

/// Differences that count as none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// Loss, in nats per token.
    pub loss: f64,
    /// Accuracy, as a share.
    pub accuracy: f64,
    /// Correlation coefficients.
    pub correlation: f64,
    /// Similarity of representations (CKA).
    pub similarity: f64,
}

impl StudyConfig {
    /// Names of the configurations that the program carries.
    pub const PRESETS: [&'static str; 3] = ["quick", "standard", "smoke"];

    /// The text of a preset; `None` if there is none of that name.
    pub fn preset_text(name: &str) -> Option<&'static str> {
        match name {
            "quick" => Some(include_str!("../presets/quick.toml")),
            "standard" => Some(include_str!("../presets/standard.toml")),
            "smoke" => Some(include_str!("../presets/smoke.toml")),
            _ => None,
        }
    }

    /// Reads and checks a configuration. `source` names the text in error messages.
    ///
    /// # Errors
    /// If the text is no TOML, has an unknown, missing or ill-typed key, or values that contradict each other.
    pub fn parse(text: &str, source: &str) -> Result<StudyConfig, StudyError> {
        let config: StudyConfig = moescope_train::parse_toml(text, source)?;
        config.check()?;
        Ok(config)
    }

    /// Checks that the values agree with each other.
    ///
    /// # Errors
    /// The first value that does not, with what was wanted.
    pub fn check(&self) -> Result<(), StudyError> {
        let model = &self.model;
        let require = |holds: bool, key: &str, found: String, wanted: &str| {
            if holds {
                Ok(())
            } else {
                Err(StudyError::Config { key: key.into(), found, wanted: wanted.into() })
            }
        };
        require(
            self.seeds >= 2,
            "seeds",
            self.seeds.to_string(),
            "2 or more, since an interval needs repetitions",
        )?;
        require(
            model.heads > 0 && model.d_model.is_multiple_of(2 * model.heads),
            "model.d_model",
            format!("{} with {} heads", model.d_model, model.heads),
            "a multiple of twice the number of heads",
        )?;
        require(model.expansion >= 2, "model.expansion", model.expansion.to_string(), "2 or more")?;
        for granularity in model.granularities.iter().chain(&self.tasks.granularities) {
            require(
                *granularity > 0 && model.d_ff.is_multiple_of(*granularity),
                "granularities",
                format!("{granularity} with d_ff = {}", model.d_ff),
                "granularities that divide d_ff",
            )?;
        }
        require(
            is_sweep(&model.granularities) && model.granularities.len() >= 3,
            "model.granularities",
            format!("{:?}", model.granularities),
            "three or more, ascending, beginning with 1: a slope needs them",
        )?;
        require(
            is_sweep(&self.tasks.granularities) && self.tasks.granularities.len() >= 2,
            "tasks.granularities",
            format!("{:?}", self.tasks.granularities),
            "two or more, ascending, beginning with 1",
        )?;
        require(
            model.primary_granularity > 1 && model.granularities.contains(&model.primary_granularity),
            "model.primary_granularity",
            model.primary_granularity.to_string(),
            "one of model.granularities, above 1",
        )?;
        require(
            is_sweep(&model.dense_widths)
                && model.dense_widths.len() >= 3
                && model.dense_widths.contains(&model.expansion),
            "model.dense_widths",
            format!("{:?}", model.dense_widths),
            "three or more, ascending, with 1 and the expansion among them",
        )?;
        require(self.training.steps > 0, "training.steps", "0".into(), "1 or more")?;
        require(
            self.training.warmup + self.training.decay <= self.training.steps,
            "training.warmup",
            format!(
                "{} + decay {} in {} steps",
                self.training.warmup, self.training.decay, self.training.steps
            ),
            "warm-up and decay that fit into the steps",
        )?;
        require(
            self.data.positions >= 8 && self.data.evaluation_windows >= 2,
            "data",
            format!("{} positions, {} evaluation windows", self.data.positions, self.data.evaluation_windows),
            "8 positions and 2 evaluation windows or more",
        )?;
        require(
            self.instruments.permutations >= 19,
            "instruments.permutations",
            self.instruments.permutations.to_string(),
            "19 or more, since p cannot fall below 1/(permutations + 1)",
        )
    }
}

/// Whether the values ascend from 1.
fn is_sweep(values: &[usize]) -> bool {
    values.first() == Some(&1) && values.windows(2).all(|pair| pair[0] < pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick_with(from: &str, to: &str) -> Result<StudyConfig, StudyError> {
        let text = StudyConfig::preset_text("quick").unwrap();
        assert!(text.contains(from), "the preset no longer holds `{from}`");
        StudyConfig::parse(&text.replace(from, to), "test.toml")
    }

    #[test]
    fn every_preset_is_valid_and_bears_its_name() {
        for name in StudyConfig::PRESETS {
            let config = StudyConfig::parse(StudyConfig::preset_text(name).unwrap(), name).unwrap();
            assert_eq!(config.name, name);
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_place_and_suggestion() {
        let message = quick_with("learning_rate = 6e-3\nwarmup", "learning_rat = 6e-3\nwarmup")
            .unwrap_err()
            .to_string();
        assert!(message.contains("test.toml") && message.contains("learning_rat`"), "{message}");
        assert!(message.contains("did you mean `learning_rate`"), "{message}");
    }

    #[test]
    fn contradictions_say_what_was_found_and_wanted() {
        let message =
            quick_with("granularities = [1, 2, 4, 8]", "granularities = [1, 2, 5]").unwrap_err().to_string();
        assert!(message.contains("5 with d_ff = 192") && message.contains("divide d_ff"), "{message}");
        assert!(quick_with("seeds = 3", "seeds = 1").is_err());
        assert!(quick_with("primary_granularity = 4", "primary_granularity = 3").is_err());
        assert!(quick_with("warmup = 40", "warmup = 20000").is_err());
        assert!(quick_with("seeds = 3", "seeds = \"three\"").is_err());
    }
}

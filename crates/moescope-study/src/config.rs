//! The configuration of a study: one TOML file, complete, checked before anything is computed.
//!
//! Every number that a result depends on stands here or is a named constant beside its use; there is no environment
//! variable and no default that a file could leave out. A mistake must fail in the first second, not after an hour of
//! training, so all that can contradict each other is compared in [`StudyConfig::check`].

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
    /// Independent repetitions, 2 or more: each has its own weights and its own order of the data. They are the `n`
    /// of every claim.
    pub seeds: u64,
    /// Seed of the first repetition; the others follow by one. A second study with another first seed repeats the
    /// first one with fresh models.
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
    /// Width of the residual stream; a multiple of twice the heads, since rotary positions turn pairs of coordinates.
    pub d_model: usize,
    /// Blocks, each of attention and a feed-forward layer. Every block of a family has the same feed-forward layer.
    pub layers: usize,
    /// Attention heads, as many for keys and values as for queries.
    pub heads: usize,
    /// Feed-forward width that is active for each token, in every family but the wider dense ones.
    pub d_ff: usize,
    /// Total over active feed-forward width of the sparse families (E), 2 or more.
    pub expansion: usize,
    /// Granularities of the sweep, in the Warsaw definition: `d_ff` over the width of one expert. Ascending from 1,
    /// three or more, each a divisor of `d_ff`. Granularity G means E·G experts, of which G are chosen for each
    /// token: total and active parameters stay the same, router aside.
    pub granularities: Vec<usize>,
    /// Granularity of the routing controls and of the comparisons with dense models: one of the sweep, above 1.
    pub primary_granularity: usize,
    /// Widths of the dense models, in multiples of `d_ff`. Ascending; must hold 1 and the expansion, and three values
    /// or more, since the effective width of MoE is read off a curve through them.
    pub dense_widths: Vec<usize>,
}

/// Which text, and how it is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataChoice {
    /// `embedded` for the text that the program carries, or a folder with one sub-folder for each domain.
    pub corpus: PathBuf,
    /// Entries of the byte-level vocabulary that is trained on the training split alone.
    pub vocabulary: usize,
    /// Tokens in a window, 8 or more: the context of every language model. Tasks bring their own length.
    pub positions: usize,
    /// Validation windows for each domain, 2 or more, evenly spaced over its text. More of them narrow the noise
    /// within a seed; only seeds narrow the intervals of claims.
    pub evaluation_windows: usize,
}

/// How every language model of the study is trained: AdamW with a trapezoid schedule, the same for all families.
///
/// One learning rate for all keeps the families comparable in budget. It does not show what each would reach at its
/// own best rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Optimiser steps. Tokens seen are `steps × batch × positions`.
    pub steps: u64,
    /// Windows in a step.
    pub batch: usize,
    /// Peak learning rate, held between warm-up and decay. The output matrices of routed and top-k layers take it times
    /// the factor by which their first weights are larger, or they would learn more slowly than those of a dense layer.
    pub learning_rate: f32,
    /// Steps of linear warm-up; together with `decay` at most `steps`.
    pub warmup: u64,
    /// Steps of linear decay at the end.
    pub decay: u64,
    /// Decoupled weight decay of the matrices, per step and in units of the learning rate.
    pub weight_decay: f32,
    /// Coefficient of the balance loss, already divided by the number of chosen experts.
    pub balance: f32,
    /// Coefficient of the router's z-loss.
    pub z_loss: f32,
}

/// How the models of the synthetic tasks are trained. What is not here (weight decay, balance, the proportions of the
/// schedule) is as in [`Training`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskTraining {
    /// Granularities compared, ascending; must hold 1 and at least one other. Each divides `model.d_ff`.
    pub granularities: Vec<usize>,
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences in a step.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f32,
}

/// How much the instruments look at. More gives less noise within a seed and takes longer; the intervals of the
/// claims are over seeds and narrow only as far as that noise was part of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instruments {
    /// Tokens for probes and for similarity of representations, about: they are taken evenly spaced from all
    /// validation tokens.
    pub probe_tokens: usize,
    /// Single-position edits for the attribution test, at least: every validation sequence gets the same number, so
    /// the sum is rounded up.
    pub attribution_edits: usize,
    /// Shuffles behind each permutation null, 19 or more: a p-value cannot fall below 1/(permutations + 1).
    pub permutations: usize,
    /// Numbers of expert sets that each layer may still use in the restriction of paths; one point of the curve each.
    pub restriction: Vec<usize>,
}

/// Differences that count as none, each in the unit of what it is compared with.
///
/// They are part of the configuration so that they are fixed before any result: a margin chosen afterwards makes "the
/// same" a matter of taste. Wider margins make equivalence easier to claim and less worth claiming.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// Loss, in nats per token: 0.02 is about two per cent of perplexity.
    pub loss: f64,
    /// Accuracy, as a share from 0 to 1: of probes and of tasks.
    pub accuracy: f64,
    /// Correlation coefficients, on the scale from −1 to 1.
    pub correlation: f64,
    /// Similarity of representations (CKA), on the scale to 1.
    pub similarity: f64,
}

impl StudyConfig {
    /// Names of the configurations that the program carries: `quick` is the default, `standard` takes hours, `smoke`
    /// shows only that every part works.
    pub const PRESETS: [&'static str; 3] = ["quick", "standard", "smoke"];

    /// The TOML text of a preset, with its comments; `None` if there is none of that name. It is text so that a
    /// person can print it, change a line and run the result.
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
        self.check_sizes()?;
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
            self.training.warmup.saturating_add(self.training.decay) <= self.training.steps,
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

    /// Every number within what makes sense and fits a machine, before memory is asked for or a folder made.
    fn check_sizes(&self) -> Result<(), StudyError> {
        let (model, instruments) = (&self.model, &self.instruments);
        let counts = [
            // An interval needs repetitions.
            ("seeds", self.seeds, 2, 1000),
            ("model.d_model", model.d_model as u64, 2, 1 << 14),
            ("model.layers", model.layers as u64, 1, 256),
            ("model.heads", model.heads as u64, 1, 1 << 10),
            ("model.d_ff", model.d_ff as u64, 1, 1 << 16),
            ("model.expansion", model.expansion as u64, 2, 1 << 10),
            ("data.vocabulary", self.data.vocabulary as u64, 257, 1 << 18),
            ("data.positions", self.data.positions as u64, 8, 1 << 14),
            ("data.evaluation_windows", self.data.evaluation_windows as u64, 2, 1 << 16),
            ("training.steps", self.training.steps, 1, 1 << 40),
            ("training.batch", self.training.batch as u64, 1, 1 << 16),
            ("tasks.steps", self.tasks.steps, 1, 1 << 40),
            ("tasks.batch", self.tasks.batch as u64, 1, 1 << 16),
            ("instruments.probe_tokens", instruments.probe_tokens as u64, 100, 1 << 24),
            ("instruments.attribution_edits", instruments.attribution_edits as u64, 1, 1 << 24),
            ("instruments.permutations", instruments.permutations as u64, 19, 1 << 20),
            ("instruments.restriction (entries)", instruments.restriction.len() as u64, 2, 64),
        ];
        let wrong = counts.into_iter().find(|(_, found, least, most)| !(*least..=*most).contains(found));
        if let Some((key, found, least, most)) = wrong {
            return Err(StudyError::out_of_range(key, found, &format!("{least} to {most}")));
        }
        self.check_reals()
    }

    /// Rates, coefficients and margins are numbers of the right sign, and the seeds do not run over.
    fn check_reals(&self) -> Result<(), StudyError> {
        let (training, margins) = (&self.training, &self.margins);
        let positive = [
            ("training.learning_rate", f64::from(training.learning_rate)),
            ("tasks.learning_rate", f64::from(self.tasks.learning_rate)),
            ("margins.loss", margins.loss),
            ("margins.accuracy", margins.accuracy),
            ("margins.correlation", margins.correlation),
            ("margins.similarity", margins.similarity),
        ];
        if let Some((key, found)) =
            positive.into_iter().find(|(_, found)| !(found.is_finite() && *found > 0.0))
        {
            return Err(StudyError::out_of_range(key, found, "a positive number"));
        }
        let zero_or_more = [
            ("training.balance", training.balance),
            ("training.z_loss", training.z_loss),
            ("training.weight_decay", training.weight_decay),
        ];
        if let Some((key, found)) =
            zero_or_more.into_iter().find(|(_, found)| !(found.is_finite() && *found >= 0.0))
        {
            return Err(StudyError::out_of_range(key, found, "0 or a positive number"));
        }
        match self.first_seed.checked_add(self.seeds) {
            Some(_) => Ok(()),
            None => Err(StudyError::out_of_range(
                "first_seed",
                self.first_seed,
                "a number with room for all seeds above it",
            )),
        }
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
        let message = quick_with("learning_rate = 8e-3\nwarmup", "learning_rat = 6e-3\nwarmup")
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

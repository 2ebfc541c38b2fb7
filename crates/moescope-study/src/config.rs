//! The configuration of a study: one TOML file, complete, checked before anything is computed.
//!
//! Every number that a result depends on stands here or is a named constant beside its use; there is no environment
//! variable and no default that a file could leave out. A mistake must fail in the first second, not after an hour of
//! training, so all that can contradict each other is compared in [`StudyConfig::check`].

mod check;
mod place;

use std::path::PathBuf;

use moescope_corpus::Vocabulary;
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
    /// Entries of the byte-level vocabulary that is trained on the training split alone. Either this or `tokenizer`.
    pub vocabulary: Option<usize>,
    /// A `tokenizer.json`, which brings its vocabulary. Tokens of a tokenizer that was trained on other text may cover the
    /// domains unequally well.
    pub tokenizer: Option<PathBuf>,
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
    /// Instruments of the case, by the names that `moescope analyze --list` tells, that every language model of the study at the study's
    /// rate is asked beside what the questions need. None if it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub case: Vec<String>,
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

impl DataChoice {
    /// Where the tokens come from.
    ///
    /// # Errors
    /// [`StudyError::Config`] if there are both vocabulary and tokenizer, or neither.
    pub fn tokens(&self) -> Result<Vocabulary, StudyError> {
        match (self.vocabulary, &self.tokenizer) {
            (Some(size), None) => Ok(Vocabulary::Learned(size)),
            (None, Some(path)) => Ok(Vocabulary::File(path.clone())),
            (Some(size), Some(path)) => Err(StudyError::out_of_range(
                "data.tokenizer",
                format!("\"{}\" beside `vocabulary` = {size}", path.display()),
                "one of the two: a tokenizer brings its vocabulary",
            )),
            (None, None) => Err(StudyError::out_of_range(
                "data",
                "a section without `vocabulary` and `tokenizer`",
                "one of them",
            )),
        }
    }
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
    /// If the text is no TOML, has an unknown, missing or ill-typed key, or values that contradict each other; with the line
    /// and column of the mistake.
    pub fn parse(text: &str, source: &str) -> Result<StudyConfig, StudyError> {
        let config: StudyConfig = moescope_train::parse_toml(text, source)?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(error) => Err(place::of(text, source, error)),
        }
    }
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

    fn message(from: &str, to: &str) -> String {
        quick_with(from, to).unwrap_err().to_string()
    }

    #[test]
    fn contradictions_say_where_they_are_and_what_was_found_and_wanted() {
        let granularities = message("granularities = [1, 2, 4, 8]", "granularities = [1, 2, 5]");
        assert!(
            granularities.contains("5 with d_ff = 192") && granularities.contains("divide d_ff"),
            "{granularities}"
        );
        let text = StudyConfig::preset_text("quick").unwrap();
        let line = 1 + text.lines().position(|line| line.starts_with("granularities")).unwrap();
        assert!(
            granularities.starts_with(&format!("test.toml:{line}:17: ")),
            "not line {line}: {granularities}"
        );
        for (from, to, key) in [
            ("seeds = 3", "seeds = 1", "seeds"),
            ("primary_granularity = 4", "primary_granularity = 3", "model.primary_granularity"),
            ("warmup = 40", "warmup = 20000", "training.warmup"),
            ("positions = 64", "positions = 4", "data.positions"),
            ("loss = 0.02", "loss = -0.02", "margins.loss"),
        ] {
            let found = message(from, to);
            let line = 1 + text.lines().position(|line| line.starts_with(from)).unwrap();
            assert!(found.starts_with(&format!("test.toml:{line}:")), "not line {line}: {found}");
            assert!(found.contains(&format!("`{key}`")), "{found}");
        }
        assert!(message("seeds = 3", "seeds = \"three\"").starts_with("test.toml:"));
    }

    #[test]
    fn a_value_that_was_put_in_afterwards_is_told_without_a_place() {
        let mut config = StudyConfig::parse(StudyConfig::preset_text("quick").unwrap(), "quick").unwrap();
        config.seeds = 1;
        let message = config.check().unwrap_err().to_string();
        assert!(message.starts_with("the study's configuration has `seeds` = 1"), "{message}");
    }

    #[test]
    fn tokens_come_from_a_vocabulary_or_from_a_tokenizer_but_not_from_both_or_neither() {
        let vocabulary =
            StudyConfig::preset_text("quick").unwrap().lines().find(|l| l.starts_with("vocabulary"));
        let vocabulary = vocabulary.unwrap();
        let given = quick_with(vocabulary, "tokenizer = \"t.json\"").unwrap();
        assert_eq!(given.data.tokens().unwrap(), Vocabulary::File("t.json".into()));
        // What a folder holds is compared with what is asked for as text, so it must survive being written.
        let written = toml::to_string(&given).unwrap();
        assert!(written.contains("tokenizer = \"t.json\"") && !written.contains("vocabulary"), "{written}");
        assert_eq!(StudyConfig::parse(&written, "written").unwrap(), given);

        let both = message(vocabulary, &format!("{vocabulary}\ntokenizer = \"t.json\""));
        assert!(both.contains("`data.tokenizer` = \"t.json\" beside `vocabulary`"), "{both}");
        let neither = message(vocabulary, "");
        assert!(neither.contains("without `vocabulary` and `tokenizer`"), "{neither}");
        assert!(both.starts_with("test.toml:") && neither.starts_with("test.toml:"), "{both}; {neither}");
    }
}

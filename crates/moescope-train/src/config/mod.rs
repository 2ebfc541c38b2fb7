//! The TOML file of `moescope train`.

mod model;
mod sizes;
mod syntax;
mod training;

use std::ops::Range;
use std::path::{Path, PathBuf};

use moescope_corpus::{Balance, Vocabulary};
use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use model::ModelConfig;
pub use syntax::parse_toml;
pub use training::TrainingConfig;

use crate::{TrainError, TrainPlan};
use syntax::Problem;

/// A training run as read from its TOML file, checked, with every default filled in.
///
/// ```
/// let config = moescope_train::TrainConfig::parse(
///     r#"
///     [model]
///     family = "moe"        # dense, wide, topk-dense, moe, hash, frozen, random or committee
///     d_model = 64
///     layers = 2
///     heads = 4
///     d_ff = 256            # active width; with it,
///     expansion = 4         # total over active width, and
///     granularity = 4       # d_ff over the width of one expert
///
///     [data]
///     corpus = "embedded"   # or a folder with one sub-folder per domain
///     vocab = 1024          # or tokenizer = "tokenizer.json"
///     positions = 64
///
///     [training]
///     steps = 300
///     batch = 16
///     learning_rate = 4e-3
///     seed = 1
///     "#,
///     "run.toml",
/// )?;
/// assert_eq!(config.plan(1024).description.feed_forward.len(), 2);
/// # Ok::<(), moescope_train::TrainError>(())
/// ```
///
/// The size of the experts can be given in four ways, all at once if they agree: `d_ff`, `expansion`, `granularity`;
/// `experts`, `expert_width`, `per_token`; `total_width`, `d_ff`, `experts`; or `expert_width`, `active_share`, `experts`.
/// All families take the same keys, so that two runs can differ in `family` alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainConfig {
    /// The model.
    pub model: ModelConfig,
    /// The text.
    pub data: DataConfig,
    /// The training.
    pub training: TrainingConfig,
}

/// Which text, and how it is cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataConfig {
    /// `embedded`, or a folder with one sub-folder for each domain.
    pub corpus: PathBuf,
    /// Where the tokens come from.
    pub vocabulary: Vocabulary,
    /// Tokens in a window.
    pub positions: usize,
    /// Validation windows for each domain; without a number 16, or as many as the smallest domain has.
    pub evaluation_windows: Option<usize>,
    /// Whether large domains are seen more often than small ones.
    pub proportional: bool,
}

impl TrainConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`TrainConfig::parse`], and [`TrainError::Host`] when it cannot be read or is not UTF-8.
    pub fn read(path: &Path) -> Result<TrainConfig, TrainError> {
        let text = moescope_host::read_text(path)?;
        TrainConfig::parse(&text, &path.display().to_string())
    }

    /// Reads and checks the text of a file; `file` names it in errors.
    ///
    /// # Errors
    /// [`TrainError::Config`] with line and column: no TOML, an unknown key (with the nearest known one), a missing one, a
    /// value of the wrong kind, or values that contradict each other.
    pub fn parse(text: &str, file: &str) -> Result<TrainConfig, TrainError> {
        let sections: Sections = parse_toml(text, file)?;
        sections.check().map_err(|problem| syntax::at(text, file, problem))
    }

    /// The plan of the run, for a tokenizer with `vocab` tokens.
    pub fn plan(&self, vocab: usize) -> TrainPlan {
        self.training.plan(self.model.description(vocab, self.data.positions), self.data.positions)
    }

    /// Tokens of the vocabulary as far as they are known before the tokenizer is: a file may bring more.
    pub(crate) fn least_vocabulary(&self) -> usize {
        match self.data.vocabulary {
            Vocabulary::Learned(size) => size,
            Vocabulary::File(_) => LEAST_VOCABULARY,
        }
    }

    /// How the domains are weighted.
    pub fn domain_balance(&self) -> Balance {
        if self.data.proportional { Balance::Proportional } else { Balance::Equal }
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    model: Spanned<model::Section>,
    data: Spanned<DataSection>,
    training: training::Section,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataSection {
    corpus: PathBuf,
    vocab: Option<Spanned<usize>>,
    tokenizer: Option<PathBuf>,
    positions: Spanned<usize>,
    evaluation_windows: Option<Spanned<usize>>,
    #[serde(default)]
    balance: DomainBalance,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DomainBalance {
    #[default]
    Equal,
    Proportional,
}

/// Entries that a learned vocabulary needs at least: the bytes and the separator.
const LEAST_VOCABULARY: usize = 257;

impl Sections {
    fn check(self) -> Result<TrainConfig, Problem> {
        let (model_span, positions) = (self.model.span(), self.data.as_ref().positions.span());
        let data = self.data.as_ref().check(self.data.span())?;
        let spans = self.training.spans();
        let training = self.training.check()?;
        let model = self.model.into_inner().check(&model_span, training.seed)?;
        let config = TrainConfig { model, data, training };
        config.check_plan(&spans, positions, model_span)?;
        Ok(config)
    }
}

impl TrainConfig {
    /// What the plan itself refuses, at the key that it is about.
    fn check_plan(
        &self,
        spans: &[(&'static str, Range<usize>)],
        positions: Range<usize>,
        model: Range<usize>,
    ) -> Result<(), Problem> {
        match self.plan(self.least_vocabulary()).check() {
            Ok(()) => Ok(()),
            Err(TrainError::Plan { field, found, wanted }) => {
                let own = spans.iter().find(|(name, _)| *name == field).map(|(_, span)| span.clone());
                let span = own.unwrap_or(if field == "positions" { positions } else { model });
                Err(Problem::new(span, format!("`{field}` is {found}, wanted {wanted}")))
            }
            Err(other) => Err(Problem::new(model, other.to_string())),
        }
    }
}

impl DataSection {
    fn check(&self, section: Range<usize>) -> Result<DataConfig, Problem> {
        let vocabulary = match (&self.vocab, &self.tokenizer) {
            (Some(size), None) => Vocabulary::Learned(at_least(size, "vocab", LEAST_VOCABULARY)?),
            (None, Some(path)) => Vocabulary::File(path.clone()),
            (Some(size), Some(_)) => {
                let problem =
                    "found both `vocab` and `tokenizer`, wanted one: a tokenizer brings its vocabulary";
                return Err(Problem::new(size.span(), problem.into()));
            }
            (None, None) => {
                let problem = "found neither `vocab` nor `tokenizer` in [data], wanted one of them";
                return Err(Problem::new(section, problem.into()));
            }
        };
        let windows = self.evaluation_windows.as_ref();
        Ok(DataConfig {
            corpus: self.corpus.clone(),
            vocabulary,
            positions: at_least(&self.positions, "positions", 2)?,
            evaluation_windows: windows.map(|n| at_least(n, "evaluation_windows", 1)).transpose()?,
            proportional: self.balance == DomainBalance::Proportional,
        })
    }
}

fn at_least(value: &Spanned<usize>, key: &str, least: usize) -> Result<usize, Problem> {
    let found = *value.get_ref();
    if found >= least {
        return Ok(found);
    }
    Err(Problem::new(value.span(), format!("`{key}` is {found}, wanted {least} or more")))
}

#[cfg(test)]
mod tests;

//! Whether the values of a configuration make sense, and agree with each other.

use moescope_analysis::instrument::{CASE, named};
use moescope_corpus::Vocabulary;

use super::StudyConfig;
use crate::StudyError;

/// The instrument that looks at checkpoints of a training, of which a study keeps the last.
const NOT_KEPT: &str = "saturation";

/// The error about a key unless what is wanted of it holds.
fn require(holds: bool, key: &str, found: impl std::fmt::Display, wanted: &str) -> Result<(), StudyError> {
    if holds { Ok(()) } else { Err(StudyError::out_of_range(key, found, wanted)) }
}

impl StudyConfig {
    /// Checks that the values agree with each other.
    ///
    /// # Errors
    /// The first value that does not, with what was wanted.
    pub fn check(&self) -> Result<(), StudyError> {
        self.check_sizes()?;
        self.check_reals()?;
        self.check_model()?;
        self.check_granularities()?;
        self.check_case()?;
        require(
            self.training.warmup.saturating_add(self.training.decay) <= self.training.steps,
            "training.warmup",
            format!(
                "{} + decay {} in {} steps",
                self.training.warmup, self.training.decay, self.training.steps
            ),
            "warm-up and decay that fit into the steps",
        )
    }

    /// Every number within what makes sense and fits a machine, before memory is asked for or a folder made.
    fn check_sizes(&self) -> Result<(), StudyError> {
        let (model, instruments) = (&self.model, &self.instruments);
        let mut counts = vec![
            // An interval needs repetitions.
            ("seeds", self.seeds, 2, 1000),
            ("model.d_model", model.d_model as u64, 2, 1 << 14),
            ("model.layers", model.layers as u64, 1, 256),
            ("model.heads", model.heads as u64, 1, 1 << 10),
            ("model.d_ff", model.d_ff as u64, 1, 1 << 16),
            ("model.expansion", model.expansion as u64, 2, 1 << 10),
            ("data.positions", self.data.positions as u64, 8, 1 << 14),
            ("data.evaluation_windows", self.data.evaluation_windows as u64, 2, 1 << 16),
            ("training.steps", self.training.steps, 1, 1 << 40),
            ("training.batch", self.training.batch as u64, 1, 1 << 16),
            ("tasks.steps", self.tasks.steps, 1, 1 << 40),
            ("tasks.batch", self.tasks.batch as u64, 1, 1 << 16),
            ("instruments.probe_tokens", instruments.probe_tokens as u64, 100, 1 << 24),
            ("instruments.attribution_edits", instruments.attribution_edits as u64, 1, 1 << 24),
            // A p-value cannot fall below 1/(permutations + 1).
            ("instruments.permutations", instruments.permutations as u64, 19, 1 << 20),
        ];
        if let Vocabulary::Learned(size) = self.data.tokens()? {
            counts.push(("data.vocabulary", size as u64, 257, 1 << 18));
        }
        let wrong = counts.into_iter().find(|(_, found, least, most)| !(*least..=*most).contains(found));
        if let Some((key, found, least, most)) = wrong {
            return Err(StudyError::out_of_range(key, found, &format!("{least} to {most}")));
        }
        let sets = instruments.restriction.len();
        require(
            (2..=64).contains(&sets),
            "instruments.restriction",
            format!("{sets} entries"),
            "2 to 64 entries",
        )
    }

    /// All instruments that `instruments.case` may name.
    pub fn whole_case() -> Vec<String> {
        let names = CASE.iter().map(|instrument| instrument.about().name).filter(|name| *name != NOT_KEPT);
        names.map(str::to_owned).collect()
    }

    /// Instruments are known, named once, and can be asked of what a study keeps.
    fn check_case(&self) -> Result<(), StudyError> {
        let known = || CASE.iter().map(|instrument| instrument.about().name);
        for (at, name) in self.instruments.case.iter().enumerate() {
            let refuse =
                |wanted: &str| StudyError::out_of_range("instruments.case", format!("{name:?}"), wanted);
            if named(name).is_none() {
                let near = moescope_base::nearest_name(name, known())
                    .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                let all = known().collect::<Vec<_>>().join(", ");
                return Err(refuse(&format!("an instrument; {near}Known: {all}")));
            }
            if name == NOT_KEPT {
                return Err(refuse(
                    "instruments that look at a model as it is in the end: a study keeps no earlier checkpoints",
                ));
            }
            if self.instruments.case[..at].contains(name) {
                return Err(refuse("each instrument once"));
            }
        }
        Ok(())
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
        for (key, found) in positive {
            require(found.is_finite() && found > 0.0, key, found, "a positive number")?;
        }
        let zero_or_more = [
            ("training.balance", training.balance),
            ("training.z_loss", training.z_loss),
            ("training.weight_decay", training.weight_decay),
        ];
        for (key, found) in zero_or_more {
            require(found.is_finite() && found >= 0.0, key, found, "0 or a positive number")?;
        }
        require(
            self.first_seed.checked_add(self.seeds).is_some(),
            "first_seed",
            self.first_seed,
            "a number with room for all seeds above it",
        )
    }

    /// The sizes of the models fit each other.
    fn check_model(&self) -> Result<(), StudyError> {
        let model = &self.model;
        require(
            model.d_model.is_multiple_of(2 * model.heads),
            "model.d_model",
            format!("{} with {} heads", model.d_model, model.heads),
            "a multiple of twice the number of heads",
        )?;
        let widths = &model.dense_widths;
        require(
            is_sweep(widths) && widths.len() >= 3 && widths.contains(&model.expansion),
            "model.dense_widths",
            format!("{widths:?}"),
            "three or more, ascending, with 1 and the expansion among them",
        )
    }

    /// Granularities divide the width and ascend from 1, enough of them for what is asked of them.
    fn check_granularities(&self) -> Result<(), StudyError> {
        let model = &self.model;
        let sweeps = [
            (
                "model.granularities",
                &model.granularities,
                3,
                "three or more, ascending, beginning with 1: a slope needs them",
            ),
            ("tasks.granularities", &self.tasks.granularities, 2, "two or more, ascending, beginning with 1"),
        ];
        for (key, granularities, least, wanted) in sweeps {
            let wrong = granularities.iter().find(|g| **g == 0 || !model.d_ff.is_multiple_of(**g));
            if let Some(granularity) = wrong {
                let found = format!("{granularity} with d_ff = {}", model.d_ff);
                return Err(StudyError::out_of_range(key, found, "granularities that divide d_ff"));
            }
            require(
                is_sweep(granularities) && granularities.len() >= least,
                key,
                format!("{granularities:?}"),
                wanted,
            )?;
        }
        require(
            model.primary_granularity > 1 && model.granularities.contains(&model.primary_granularity),
            "model.primary_granularity",
            model.primary_granularity,
            "one of model.granularities, above 1",
        )
    }
}

/// Whether the values ascend from 1.
fn is_sweep(values: &[usize]) -> bool {
    values.first() == Some(&1) && values.windows(2).all(|pair| pair[0] < pair[1])
}

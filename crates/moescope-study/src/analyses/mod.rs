//! Instruments of the case in a study: any of them, on every language model, beside what the questions measure.
//!
//! The questions of a study rest on measures of its own, chosen beforehand. Whoever has a sixth question names instruments in the
//! configuration (`instruments.case`): each is then asked of the models of all families and seeds, its tables are kept beside the
//! model, and a chapter of the report tells how its numbers differ between families, with intervals over seeds.

mod chapter;
mod over_seeds;

use std::collections::BTreeMap;

use moescope_analysis::AnalysisError;
use moescope_analysis::instrument::{Finding, Material, Other, named};
use moescope_base::{Seed, Subject, SubjectError, Table, Tokens};
use moescope_model::{Model, ModelSubject};
use moescope_trace::TokenTable;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::folder::StudyFolder;
use crate::roster::Run;
use crate::{StudyConfig, StudyError};

/// What one instrument found on the models of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Its name in the case.
    pub instrument: String,
    /// What it found on each run.
    pub runs: BTreeMap<Run, Found>,
}

/// What an instrument found on one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Numbers, and the finding in a sentence.
    Tables {
        /// Title of its first figure, or of its first table.
        says: String,
        /// All tables, as `moescope analyze` writes them.
        tables: Vec<Table>,
    },
    /// Nothing, because the model or the text does not allow it.
    Nothing {
        /// Why.
        reason: String,
    },
}

impl Found {
    /// The finding, or why there is none.
    pub fn in_words(&self) -> String {
        match self {
            Found::Tables { says, .. } => says.clone(),
            Found::Nothing { reason } => format!("no answer: {reason}"),
        }
    }

    /// The tables; none if nothing was found.
    pub fn tables(&self) -> &[Table] {
        match self {
            Found::Tables { tables, .. } => tables,
            Found::Nothing { .. } => &[],
        }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Found {
        let titles = finding.figures.iter().map(|figure| figure.title.as_str());
        let mut titles = titles.chain(finding.tables.iter().map(Table::title));
        let says = titles.next().unwrap_or("no table").to_owned();
        Found::Tables { says, tables: finding.tables }
    }
}

/// Asks instruments; shared by all worker threads.
pub(crate) struct Asking<'a> {
    pub(crate) config: &'a StudyConfig,
    pub(crate) folder: &'a StudyFolder,
    pub(crate) dataset: &'a Dataset,
}

impl Asking<'_> {
    /// What an instrument finds on the model of a run, on the validation text. Instruments that compare models are given the model of
    /// the same family of the next seed, for the last seed that of the first.
    ///
    /// # Errors
    /// If a model cannot be opened or run. What the model or the text does not allow is no error.
    pub(crate) fn found(&self, name: &str, run: &Run) -> Result<Found, StudyError> {
        let instrument = named(name).expect("the configuration was checked");
        let mut subject = ModelSubject::new(Model::open(&self.folder.run(run))?);
        if instrument.about().routed && subject.shape().routed_layers().is_empty() {
            return Ok(Found::Nothing { reason: "the model is dense: it has no routed layer".into() });
        }
        let seed = Seed(run.seed).child("case");
        let mut material = Material::new(&mut subject, self.batches()?, seed)?;
        material.permutations = self.config.instruments.permutations;
        material.words = self.dataset.words();
        if instrument.against() {
            material.others = vec![self.other(run)];
        }
        match instrument.ask(&mut material) {
            Ok(finding) => Ok(finding.into()),
            // What another text or another model may allow is a result; whatever else went wrong may go right the next time.
            Err(
                error @ (AnalysisError::TooFew { .. }
                | AnalysisError::Length { .. }
                | AnalysisError::NotFinite { .. }
                | AnalysisError::OutOfRange { .. }
                | AnalysisError::Constant { .. }
                | AnalysisError::NoWeights { .. }),
            ) => Ok(Found::Nothing { reason: error.to_string() }),
            Err(error) => Err(error.into()),
        }
    }

    fn batches(&self) -> Result<Vec<(Tokens, TokenTable)>, StudyError> {
        let passes = self.dataset.validation_passes()?.into_iter();
        Ok(passes.map(|pass| (pass.tokens, pass.table)).collect())
    }

    /// The model of the same family of the next seed.
    fn other(&self, run: &Run) -> Other<'_> {
        let seeds = self.config.seed_list();
        let place = seeds.iter().position(|seed| *seed == run.seed).expect("the seed comes from the list");
        let other = Run { seed: seeds[(place + 1) % seeds.len()], ..*run };
        let folder = self.folder.run(&other);
        let open = move || {
            let model =
                Model::open(&folder).map_err(|error| SubjectError::Input { reason: error.to_string() })?;
            Ok(Box::new(ModelSubject::new(model)) as Box<dyn Subject + Send>)
        };
        Other::named(&other.to_string(), Box::new(open))
    }
}

#[cfg(test)]
mod tests;

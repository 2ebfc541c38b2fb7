//! The case of instruments: what each one asks, what it needs, and how it is run on any subject.

mod case;
mod excerpt;
mod gives;
#[cfg(test)]
mod invariance;
mod material;
mod other;
mod picture;
mod promise;
mod property;
mod scrambled;
mod standard;

use moescope_base::{Figure, Table};
use serde::Serialize;

use crate::AnalysisError;

pub use case::{CASE, named};
pub use excerpt::{EXCERPT, Reads};
pub use gives::{Gives, Number, Range};
pub use material::{Material, Overhears, ResidualStream, stream_of};
pub use other::{Open, Other};
pub use picture::layer_figure;
pub use promise::{LEVEL, Promise, Reading, Rule};
pub use property::Property;
pub(crate) use scrambled::SCRAMBLED;

/// One analysis that can be asked for by name and run on any model.
pub trait Instrument: Sync {
    /// What a reader should know before running it.
    fn about(&self) -> About;

    /// Whether it compares the subject with other models, which the material must then have.
    fn against(&self) -> bool {
        false
    }

    /// How much of the text it reads.
    fn reads(&self) -> Reads {
        Reads::default()
    }

    /// What it asks of every token of the text beside the routes.
    fn overhears(&self) -> &'static [Overhears] {
        &[]
    }

    /// Runs it on as much of the text as it reads.
    ///
    /// # Errors
    /// As [`Instrument::run`].
    fn ask(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        material.reading(self.reads(), |material| self.run(material))
    }

    /// Runs it on all of the text. The result follows from the material alone, not from the number of threads.
    ///
    /// # Errors
    /// If the material does not allow the analysis (too few documents, a single domain, no routed layer), or the subject cannot
    /// answer.
    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError>;
}

/// What a reader should know of an instrument before running it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct About {
    /// Its name at the command line.
    pub name: &'static str,
    /// What it looks at.
    pub group: Group,
    /// The question that it answers, in one sentence.
    pub question: &'static str,
    /// What its number would be if there were nothing to find.
    pub null: &'static str,
    /// What it does not show.
    pub does_not_show: &'static str,
    /// Paper and definition.
    pub source: &'static str,
    /// Cost in forward passes.
    pub passes: &'static str,
    /// Whether it needs a model with routed layers.
    pub routed: bool,
    /// What its numbers are: each of its tables with what a row is, and its results with unit and range.
    pub gives: &'static [Gives],
    /// What it finds where that is planted, and what it does not find; the bench of `moescope validate` holds it to this.
    pub promises: &'static [Promise],
}

/// What an instrument looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Where tokens go.
    Routing,
    /// The routes through all layers together.
    Paths,
    /// Vectors inside the model.
    Representation,
    /// The weights themselves.
    Weights,
    /// What the residual stream says before the end.
    Lenses,
    /// What changes when something is changed.
    Causal,
    /// What it means for use.
    Practice,
}

impl Group {
    /// The name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Group::Routing => "routing",
            Group::Paths => "paths",
            Group::Representation => "representation",
            Group::Weights => "weights",
            Group::Lenses => "lenses",
            Group::Causal => "causal",
            Group::Practice => "practice",
        }
    }
}

/// What an instrument found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// Numbers.
    pub tables: Vec<Table>,
    /// Pictures of the tables, each with its finding as title.
    pub figures: Vec<Figure>,
}

impl From<Vec<Table>> for Finding {
    /// Tables without pictures of their own.
    fn from(tables: Vec<Table>) -> Finding {
        Finding { tables, figures: Vec::new() }
    }
}

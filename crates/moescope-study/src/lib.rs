//! Studies: families of models over seeds, measured by the same instruments, and the answers that follow.
//!
//! A [`StudyConfig`] decides everything. A [`Study`] grows the models, measures and compares them, keeping every result in
//! its folder, so that it can be interrupted at any moment; [`conclude`] turns the [`Results`] into answers with
//! intervals, nulls and corrected tests.
//!
//! ```
//! use moescope_study::StudyConfig;
//!
//! let text = StudyConfig::preset_text("quick").expect("a preset");
//! let config = StudyConfig::parse(text, "quick")?;
//! assert!(config.roster().len() > 30); // models that the study will grow
//! # Ok::<(), moescope_study::StudyError>(())
//! ```
//!
//! Why measuring and concluding are apart: whatever is measured is kept as plain numbers, and the conclusion is a pure
//! function of them. So a verdict can be tested on results written by hand, an interrupted study ends with the same
//! answers, and a changed rule needs no model to be trained again.

mod analyses;
mod claim;
mod compare;
mod conclusion;
mod config;
mod dataset;
mod error;
mod family;
mod folder;
mod grow;
pub mod laws;
mod measure;
mod plan;
mod pool;
mod progress;
mod questions;
mod results;
mod roster;
mod study;
mod tabulate;
mod tasks;
mod validity;

pub use analyses::{Analysis, Found};
pub use claim::{Claim, Decision, LEVEL};
pub use compare::{Comparison, Pair};
pub use conclusion::{Chapter, Conclusion, conclude};
pub use config::{DataChoice, Instruments, Margins, ModelSizes, StudyConfig, TaskTraining, Training};
pub use dataset::{Dataset, DatasetFacts, Pass};
pub use error::StudyError;
pub use family::Family;
pub use folder::StudyFolder;
pub use measure::*;
pub use plan::{Plan, PlannedKind};
pub use progress::Event;
pub use results::{Results, TaskFacts};
/// Commit that the program was built from, where it was built from a checkout.
pub const COMMIT: Option<&str> = option_env!("MOESCOPE_COMMIT");

pub use roster::{Rate, Run, Workload};
pub use study::Study;
pub use validity::{Judgement, REQUIRED, Validity, ValidityOptions, validity};

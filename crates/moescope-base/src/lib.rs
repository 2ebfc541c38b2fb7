//! The contract between the rooms of moescope: the nouns that cross walls, and nothing else.
//!
//! A language model is observed at named places ([`HookPoint`]), on given [`Tokens`], possibly under an
//! [`Edit`]; what comes out is a [`Value`] with named axes, and every result ends as a [`Table`] whose columns
//! say their unit, sample size and interval. An analysis asks a model only through the [`Subject`] trait, so it
//! works alike on our own runs, on downloaded checkpoints and on planted test models.
//!
//! ```
//! use moescope_base::{HookPoint, Site};
//!
//! let point: HookPoint = "blocks.2.mlp.experts.17.hook_post".parse()?;
//! assert_eq!(point, HookPoint::expert(Site::ExpertPost, 2, 17));
//! assert_eq!(point.to_string(), "blocks.2.mlp.experts.17.hook_post");
//! # Ok::<(), moescope_base::HookError>(())
//! ```
//!
//! Why a crate without input, output or tensor code: the compiler then proves that an analysis cannot reach into
//! a model, and that a report cannot compute. Whatever crosses a wall is plain data that a test can write by hand.

mod alias;
mod answer;
mod axis;
mod edit;
mod edit_source;
mod figure;
mod hook_point;
mod likeness;
mod objective;
mod parameters;
mod pattern;
mod seed;
mod site;
mod subject;
mod table;
mod tokens;
mod value;
mod weight_place;

pub use alias::{ALIASES, Alias};
pub use answer::{Answer, Answers, Confidence, Evidence, QuestionId};
pub use axis::Axis;
pub use edit::{Edit, RouteEdit, TokenSelection, ValueEdit};
pub use edit_source::{EditSourceError, head_tokens, mean_row, pattern_tokens, row_tokens};
pub use figure::{Figure, FigureKind};
pub use hook_point::{HookError, HookPoint};
pub use likeness::nearest_name;
pub use objective::{LogitTerm, Objective};
pub use parameters::{Parameters, Projection, WeightMatrix};
pub use pattern::HookPattern;
pub use seed::Seed;
pub use site::Site;
pub use subject::{
    FeedForwardShape, Observation, PassEnd, Request, SiteOptions, Subject, SubjectError, SubjectShape,
};
pub use table::{Column, ColumnData, ColumnRole, Table, TableError};
pub use tokens::{Tokens, TokensError};
pub use value::{Value, ValueData, ValueError};
pub use weight_place::WeightPlace;

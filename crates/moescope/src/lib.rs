//! The façade: every room of moescope under one name, and the command line.
//!
//! Programs that want one room can depend on its crate; this one brings all of them.
//!
//! ```
//! use moescope::model::{Description, FeedForward, Variation};
//!
//! let description = Description {
//!     vocab: 512,
//!     d_model: 64,
//!     heads: 4,
//!     key_value_heads: 4,
//!     head_dim: 16,
//!     rope_theta: 10_000.0,
//!     norm_epsilon: 1e-6,
//!     max_positions: 128,
//!     tied_embeddings: false,
//!     qk_norm: true,
//!     feed_forward: vec![FeedForward::Dense { width: 256 }; 2],
//!     variation: Variation::default(),
//! };
//! let counts = description.counts();
//! assert_eq!(counts.parameters_total, counts.parameters_active); // dense: every token meets every parameter
//! ```
//!
//! Why a façade: the rooms know as little of each other as they can, so somebody has to introduce them. Only here do
//! study and report meet, and only here is there a terminal.
//!
//! # How a call runs
//!
//! `cli` reads the arguments, `context` holds what all commands share (threads, progress, quiet or JSON, the wish to stop), and one file
//! of `commands` does the work of each command, in the same order everywhere:
//!
//! 1. What is asked for is held against what there is, before anything is computed: arguments, hook names, the plan of edits, the
//!    folder of `--out`, which must be nobody else's and none of the inputs.
//! 2. The plan: passes, memory, disk, time. With `--dry-run` the command ends here.
//! 3. The work, with a progress line on the error stream. A signal is heard at the next block of a pass, and what is finished is kept where the command
//!    can go on from it.
//! 4. The result: whole files put in place at the end, data on the standard output.
//!
//! A [`failure::Failure`] carries a message for the user and how the process ends. A message says what was found, what was wanted and what to
//! do next; names that do not exist come with the nearest that do.
//!
//! Pages of `docs/` about families, hooks and instruments are made from the code here, each held current by a test: what such a page says
//! and what the program does cannot part.

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod context;
pub mod edit_plan;
pub mod exit;
pub mod failure;
pub mod families_page;
pub mod fingerprint;
pub mod hooks_page;
pub mod instruments_page;
pub mod interrupt;
pub mod memory;
pub mod near_ties;
pub mod objective;
pub mod others;
pub mod out_folder;
pub mod output;
pub mod progress;
pub mod shell;
pub mod study_report;
mod text_windows;
pub mod validity_page;

pub use moescope_analysis as analysis;
pub use moescope_base as base;
pub use moescope_corpus as corpus;
pub use moescope_dictionary as dictionary;
pub use moescope_engine as engine;
pub use moescope_model as model;
pub use moescope_report as report;
pub use moescope_study as study;
pub use moescope_trace as trace;
pub use moescope_train as train;
pub use moescope_weights as weights;

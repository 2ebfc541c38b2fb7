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
pub mod out_folder;
pub mod output;
pub mod progress;
pub mod study_report;
mod text_windows;
pub mod validity_page;

pub use moescope_analysis as analysis;
pub use moescope_base as base;
pub use moescope_corpus as corpus;
pub use moescope_engine as engine;
pub use moescope_model as model;
pub use moescope_report as report;
pub use moescope_study as study;
pub use moescope_trace as trace;
pub use moescope_train as train;
pub use moescope_weights as weights;

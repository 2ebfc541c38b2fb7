//! Training for moescope: a checked plan, one optimiser step after another, and runs that resume to the bit.
//!
//! A run is a [`TrainPlan`] on [`Batches`]. [`train`] carries it out, in memory or into a folder, and [`evaluate`] asks how
//! well a model predicts. [`TrainConfig`] is the TOML file of `moescope train`, [`run`] is that command, and [`Manifest`] what
//! it leaves as `run.json`.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use moescope_base::Tokens;
//! use moescope_model::{Description, FeedForward, Variation};
//! use moescope_train::{Balance, Batch, Batches, Outcome, Schedule, TrainPlan, train};
//!
//! struct Counting;
//! impl Batches for Counting {
//!     fn batch(&self, step: u64) -> Batch {
//!         let ids = (0..16).map(|position| (step as u32 + position) % 10).collect();
//!         Batch::next_token(Tokens::new(ids, 2, 8).expect("two sequences of eight"))
//!     }
//! }
//!
//! let description = Description {
//!     vocab: 10, d_model: 8, heads: 2, key_value_heads: 2, head_dim: 4, rope_theta: 10_000.0, norm_epsilon: 1e-6,
//!     max_positions: 8, tied_embeddings: false, qk_norm: true, feed_forward: vec![FeedForward::Dense { width: 16 }],
//!     variation: Variation::default(),
//! };
//! let plan = TrainPlan {
//!     description, seed: 1, steps: 30, batch: 2, positions: 8, learning_rate: 0.02,
//!     schedule: Schedule::Trapezoid { warmup: 2, decay: 10 }, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, epsilon: 1e-8,
//!     clip: 1.0, balance: Balance::NONE, checkpoints: vec![], save_every: None, recompute: false,
//! };
//! let outcome = train(&plan, &Counting, None, &mut |_| (), &AtomicBool::new(false))?;
//! let Outcome::Done(trained) = outcome else { unreachable!("nobody stopped it") };
//! assert!(trained.metrics[29].loss < trained.metrics[0].loss);
//! # Ok::<(), moescope_train::TrainError>(())
//! ```
//!
//! Why a plan that is plain data, and batches that are a pure function of the step: a run is then decided by values that can
//! be compared, hashed and written down. Resuming needs no iterator state, two families of a study provably see the same
//! tokens, and a resume state of another run is refused with the names of the fields that differ. Nothing here reads a clock,
//! except for the section of the manifest that says so.

mod balance;
mod batches;
mod checkpoint;
mod config;
mod data;
mod differences;
mod error;
mod evaluate;
mod files;
mod manifest;
mod memory;
mod metrics;
mod optimiser;
mod plan;
mod run;
mod schedule;
mod step;
#[cfg(test)]
mod testing;
mod trainer;
mod unbounded;

pub use batches::{Batch, Batches, RandomBatches};
pub use config::{DataConfig, ModelConfig, TrainConfig, TrainingConfig, parse_toml};
pub use data::{TaskBatches, WindowBatches};
pub use error::TrainError;
pub use evaluate::{EVALUATION_SALT, Evaluation, evaluate, evaluate_batch};
pub use manifest::{DataRecord, Losses, Machine, Manifest};
pub use metrics::{StepMetrics, read_metrics, write_metrics};
pub use moescope_engine::release_spare_buffers;
pub use plan::{Balance, TrainPlan};
pub use run::{RunOutcome, run};
pub use schedule::Schedule;
pub use trainer::{Outcome, Trained, checkpoint_name, train, train_on};

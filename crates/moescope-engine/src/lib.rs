//! The arithmetic of moescope: tensors, a tape of fused operations with explicit backward passes, and grouped experts.
//!
//! ```
//! use moescope_engine::{Mode, ParameterId, Tape, Tensor};
//!
//! # fn main() -> Result<(), moescope_engine::EngineError> {
//! let table = Tensor::full([10, 4], 0.5); // [token, width]
//! let head = Tensor::full([10, 4], 0.1);
//! let mut tape = Tape::new(Mode::Gradient);
//! let table_var = tape.parameter(ParameterId(0), &table);
//! let head_var = tape.parameter(ParameterId(1), &head);
//!
//! let x = tape.embedding(table_var, &[3, 1, 4])?;
//! let logits = tape.linear(x, head_var)?;
//! let loss = tape.cross_entropy(logits, &[1, 4, 1])?;
//! assert!((tape.value(loss).data()[0] - 10f32.ln()).abs() < 1e-5); // every token is as likely
//!
//! let gradients = tape.backward(loss)?;
//! assert_eq!(gradients.parameter(ParameterId(1)).map(Tensor::shape), Some([10, 4].as_slice()));
//! # Ok(())
//! # }
//! ```
//!
//! Not a general autograd library: the set of operations is closed, each is as large as a transformer allows (a whole
//! normalisation, a whole attention pattern, all experts of a layer), and each has a backward pass written by hand beside it.
//! That keeps the tape short, the memory known, and the experts open to inspection one by one. It knows nothing of
//! transformers; the model crate puts the operations together. Everything below the tape goes through [`Device`], so another
//! device needs no change above it. See `docs/engine.md` for the picture.

mod activation;
mod attention_rule;
mod backward;
mod cpu;
mod device;
mod dictionary_kernels;
mod double;
mod error;
mod family_kernels;
mod few;
mod gradients;
mod instructions;
pub mod measure;
mod memory;
#[cfg(test)]
mod network;
mod operations;
pub mod optimizer;
mod profiler;
mod reach;
mod recompute;
mod rotary;
mod route_plan;
mod tape;
mod tensor;
#[cfg(test)]
mod testing;

pub use activation::{Activation, Gate};
pub use attention_rule::{AttentionRule, RotaryPairs, RotaryPart};
pub use cpu::Cpu;
pub use cpu::distribution::{divergence, log_total, to_probabilities};
pub use cpu::sparse_rows::{ByColumn, SparseRows};
pub use device::{AdamWStep, AttentionLayout, AttentionShape, Device, HeadShape, LinearShape, MixReach};
pub use dictionary_kernels::DictionaryKernels;
pub use double::{Doubles, double_product};
pub use error::EngineError;
pub use family_kernels::FamilyKernels;
pub use few::{Lined, few_products, few_sums};
pub use gradients::Gradients;
pub use instructions::{Deposit, WithDeposit, deposit_slowly, with_deposit};
pub use memory::{limit_spare_buffers, release_spare_buffers};
pub use operations::IGNORE;
pub use profiler::{KernelProfile, Profiler};
pub use rotary::Rotary;
pub use route_plan::RoutePlan;
pub use tape::{Mode, ParameterId, Tape, Var};
pub use tensor::Tensor;

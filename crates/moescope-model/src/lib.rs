//! Transformers with dense and routed feed-forward layers: described, initialised, run, edited, read and written.
//!
//! ```
//! use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
//! use moescope_model::{Description, FeedForward, Granularity, Model, ModelSubject, Router, Variation};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let experts = Granularity::warsaw(32, 4, 2)?; // eight experts of 16 neurons, two for each token
//! let description = Description {
//!     vocab: 64, d_model: 16, heads: 2, key_value_heads: 2, head_dim: 8,
//!     rope_theta: 10_000.0, norm_epsilon: 1e-6, max_positions: 32,
//!     tied_embeddings: false, qk_norm: true,
//!     feed_forward: vec![FeedForward::Routed(experts.routed(Router::learned(true)))],
//!     variation: Variation::default(),
//! };
//! let model = Model::initialise(description, Seed(1))?;
//! let tokens = Tokens::new(vec![3, 1, 4, 1, 5], 1, 5)?;
//! let indices = HookPoint::block(Site::RouterIndices, 0);
//! let seen = ModelSubject::new(model).run(&Request { record: &[indices], ..Request::of(&tokens) })?;
//! assert_eq!(seen.values[&indices].shape(), [1, 5, 2]); // [batch, position, slot]
//! # Ok(())
//! # }
//! ```
//!
//! One forward pass serves training, recording, editing and differentiation, so none of them can drift from the others: a
//! listener only copies, and an edit is an operation on the tape like any other. Families of checkpoints differ by data, a
//! description and a map of names; there is no arithmetic in them. Models are Hugging Face folders from birth, so what is
//! trained here opens elsewhere.

mod blocks;
#[cfg(test)]
mod bounded;
mod circle;
#[cfg(test)]
mod company;
mod counts;
mod description;
#[cfg(test)]
mod edit_tests;
mod edits;
mod error;
mod expert_weights;
mod families;
mod folder;
mod forward;
mod granularity;
#[cfg(test)]
mod head_tests;
mod initialise;
#[cfg(test)]
mod invariants;
mod memory_plan;
mod model;
mod norm_scale;
mod parameters;
#[cfg(test)]
mod parity;
mod pass;
mod points;
mod random;
mod recorded_row;
mod replaced_weights;
mod route_edits;
mod router;
#[cfg(test)]
mod routing_invariants;
mod scaling;
#[cfg(test)]
mod stream_invariants;
mod streamed;
mod streams;
mod subject;
mod swap;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod upcycled;
mod value_edits;
mod variation;

pub use counts::Counts;
pub use description::{Description, FeedForward, Groups, Order, Routed, Router, RouterKind, Score, Shared};
pub use error::ModelError;
pub use families::{COMMON_KEYS, FamilySupport, family_support, guarded_keys, supported_families};
pub use folder::{Inspection, describe, inspect};
pub use granularity::Granularity;
pub use memory_plan::{MemoryPlan, Way, Work};
pub use model::Model;
pub use parameters::Parameter;
pub use pass::{Forward, Heard, LayerRoutes, Listener, Pass};
pub use scaling::Scaling;
pub use subject::ModelSubject;
pub use variation::{
    Activation, Attention, Biases, Latent, Neuron, Norm, NormPlacement, Pairs, Positions, QueryExperts,
    Turning, Variation,
};

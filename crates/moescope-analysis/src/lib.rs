//! Instruments and statistics: from routes, or from what a model answers, to tables with intervals and nulls.
//!
//! Each file holds one instrument. It takes plain data, a routing trace, or a `&mut dyn Subject`, and returns a typed
//! result that turns into a [`moescope_base::Table`]. It states what its number would be if there were nothing to
//! find, and what the number does not show.
//!
//! ```
//! use moescope_analysis::statistics;
//!
//! // Loss of MoE minus loss of dense, one value for each seed.
//! let differences = [-0.11, -0.09, -0.10, -0.12, -0.08];
//! let summary = statistics::one_sample(&differences)?;
//! assert!((summary.mean + 0.1).abs() < 1e-12);
//! assert!(summary.high < 0.0 && summary.p_value < 0.001);
//! # Ok::<(), moescope_analysis::AnalysisError>(())
//! ```
//!
//! Why the instruments never import the model: the same code then judges our own runs, downloaded checkpoints and
//! planted test doubles whose true answer is known, and an instrument that cannot find what was planted is caught
//! before it is trusted. Independent units are seeds across models and documents within one; tokens are neither.

mod along;
mod assignment;
#[cfg(test)]
mod certain_model;
mod check;
mod clustering;
mod depth;
mod document_loss;
mod error;
mod expert_neurons;
mod expert_weights;
mod grouped;
mod lens_passage;
#[cfg(test)]
mod lens_reference;
mod next_token;
mod overhearing;
#[cfg(test)]
mod planted_model;
#[cfg(test)]
mod planted_parameters;
mod predictions;
mod recorded;
mod sample;
mod sequences;
mod shuffled;
mod tabulate;
mod turn;

pub mod ablation;
pub mod activation_patch;
pub mod agreement;
pub mod attribution;
pub mod calibration;
pub mod capacity;
pub mod causal_trace;
pub mod committee;
pub mod counting;
pub mod domain_shift;
pub mod effective_width;
pub mod expert_cache;
pub mod expert_merge;
pub mod expert_profile;
pub mod expert_prune;
pub mod expert_representation;
pub mod expert_similarity;
pub mod generated_routes;
pub mod induction;
pub mod instrument;
pub mod intrinsic_dimension;
pub mod jacobian_lens;
pub mod knockout;
pub mod logit_attribution;
pub mod logit_lens;
pub mod matrix;
pub mod model_comparison;
pub mod neuron_profile;
pub mod path_patch;
pub mod path_profile;
pub mod paths;
pub mod predictability;
pub mod probe;
pub mod quantised_experts;
pub mod route_patch;
pub mod route_report;
pub mod router_geometry;
pub mod routing;
pub mod routing_regret;
pub mod similarity;
pub mod sparse_dictionary;
pub mod sparse_probe;
pub mod specialisation;
pub mod spectrum;
pub mod statistics;
pub mod stream_spectrum;
pub mod superposition;
pub mod tuned_lens;
pub mod weight_sizes;
pub mod wording;

pub use error::AnalysisError;
pub use sample::Sample;

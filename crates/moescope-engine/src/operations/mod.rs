//! The closed set of operations: one file each, with the forward call on the tape, the way back, a slow reference and tests.

mod add;
mod attention_mix;
mod attention_pattern;
mod balance_loss;
mod cross_entropy;
mod embedding;
mod expert_combine;
mod expert_input;
mod expert_linear;
mod expert_output;
mod gather_columns;
mod head_norm_rotary;
mod linear;
mod overwrite_rows;
mod renormalise;
mod rms_norm;
mod scale;
mod sigmoid;
mod softmax;
mod sum_product;
mod swiglu;
mod top_k_activation;
mod z_loss;

pub use cross_entropy::IGNORE;

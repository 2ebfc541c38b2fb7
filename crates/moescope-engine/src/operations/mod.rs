//! The closed set of operations: one file each, with the forward call on the tape, the way back, a slow reference and tests.

mod activate;
mod add;
mod attention_mix;
mod attention_pattern;
mod attention_scores;
mod balance_loss;
mod bias;
mod cross_entropy;
mod embedding;
mod expert_bias;
mod expert_combine;
mod expert_input;
mod expert_linear;
mod expert_output;
mod gated;
mod gather_columns;
mod head_norm_rotary;
mod join_heads;
mod layer_norm;
mod linear;
mod overwrite_rows;
mod renormalise;
mod rms_norm;
mod rotary_part;
mod scale;
mod scale_rows;
mod sigmoid;
mod sink_softmax;
mod soft_cap;
mod softmax;
mod sparse_mixer;
mod sum_product;
mod swiglu;
mod top_k_activation;
mod z_loss;

pub use cross_entropy::IGNORE;

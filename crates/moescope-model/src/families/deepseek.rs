//! What DeepSeek-V2 and -V3 have in common: latent attention, dense layers first, experts that all tokens share.
//!
//! The reference turns neighbouring coordinates of queries and keys, where others turn halves; rows of the projections are put
//! into our order when they are read, which gives the same scores. The key that turns is one for all heads. With latent attention
//! `hook_v` and `hook_z` are as wide as `heads × v_head_dim`, which need not be `heads × head_dim`.

use super::names::{Cut, Groups, Leaf, Names, OURS, part, renamed};
use super::{effects, options, rope};
use crate::ModelError;
use crate::description::{Description, FeedForward, Routed, Router, Shared};
use crate::folder::Configuration;
use crate::variation::{Activation, Latent, Neuron, Pairs, Positions};

/// The latent and the turning part of keys are rows of one tensor, keys and values rows of each head of another.
pub(super) const NAMES: Names = Names { leaves: &LEAVES, ..OURS };

const LATENT: Cut = Cut::rows(Groups::One, |_, _| 0, |sizes, _| latent(sizes).turned_dim);
const TURNED: Cut = Cut::rows(Groups::One, |sizes, _| latent(sizes).rank, |_, _| 0);
const KEYS: Cut = Cut::rows(Groups::Heads, |_, _| 0, |sizes, _| latent(sizes).value_dim);
const VALUES: Cut = Cut::rows(Groups::Heads, |sizes, _| latent(sizes).plain_dim, |_, _| 0);

const LEAVES: [Leaf; 12] = [
    part("self_attn.kv_a_proj.weight", "self_attn.kv_a_proj_with_mqa.weight", LATENT),
    part("self_attn.kv_a_proj.bias", "self_attn.kv_a_proj_with_mqa.bias", LATENT),
    part("self_attn.k_turned_proj.weight", "self_attn.kv_a_proj_with_mqa.weight", TURNED),
    part("self_attn.k_turned_proj.bias", "self_attn.kv_a_proj_with_mqa.bias", TURNED),
    part("self_attn.k_b_proj.weight", "self_attn.kv_b_proj.weight", KEYS),
    part("self_attn.v_b_proj.weight", "self_attn.kv_b_proj.weight", VALUES),
    renamed("mlp.shared_expert.gate_proj.weight", "mlp.shared_experts.gate_proj.weight"),
    renamed("mlp.shared_expert.up_proj.weight", "mlp.shared_experts.up_proj.weight"),
    renamed("mlp.shared_expert.down_proj.weight", "mlp.shared_experts.down_proj.weight"),
    renamed("mlp.shared_expert.gate_proj.bias", "mlp.shared_experts.gate_proj.bias"),
    renamed("mlp.shared_expert.up_proj.bias", "mlp.shared_experts.up_proj.bias"),
    renamed("mlp.shared_expert.down_proj.bias", "mlp.shared_experts.down_proj.bias"),
];

/// The latent of a model of this kind.
fn latent(sizes: &Description) -> &Latent {
    sizes.variation.attention.latent.as_ref().expect("every model of these families has one")
}

/// Refuses another kind of score than the family's own, which the key may tell.
pub(super) fn expect_score(configuration: &Configuration, own: &str) -> Result<(), ModelError> {
    let wanted = format!("`{own}`, the score of this family, or absent");
    effects::expect(configuration, "scoring_func", &wanted, |value| value.as_str() == Some(own))
}

/// The first layers are dense, all others routed. Shared experts are one wide one.
pub(super) fn feed_forward(
    configuration: &Configuration,
    layers: usize,
    first_routed: usize,
    router: Router,
) -> Result<Vec<FeedForward>, ModelError> {
    let expert_width = configuration.size("moe_intermediate_size")?;
    let shared = configuration.size_if("n_shared_experts")?.unwrap_or(0);
    let routed = Routed {
        experts: configuration.size_of(&["n_routed_experts", "num_experts", "num_local_experts"])?,
        expert_width,
        per_token: configuration.size("num_experts_per_tok")?,
        router,
        shared: (shared > 0).then(|| Shared { width: shared * expert_width, weighted: false }),
    };
    let first = configuration.size_if("first_k_dense_replace")?.unwrap_or(first_routed);
    let layer = |layer: usize| match layer < first {
        true => Ok(FeedForward::Dense { width: configuration.size("intermediate_size")? }),
        false => Ok(FeedForward::Routed(routed.clone())),
    };
    (0..layers).map(layer).collect()
}

/// Attention over latents. `query_rank` is what a missing `q_lora_rank` means; null means none.
pub(super) fn vary(
    configuration: &Configuration,
    description: &mut Description,
    pairs: Pairs,
) -> Result<(), ModelError> {
    let size =
        |key: &str, usual: usize| Ok::<usize, ModelError>(configuration.size_if(key)?.unwrap_or(usual));
    let query_rank = match configuration.has("q_lora_rank") {
        true => configuration.size_if("q_lora_rank")?,
        false => Some(1536),
    };
    let latent = Latent {
        query_rank,
        rank: size("kv_lora_rank", 512)?,
        plain_dim: size("qk_nope_head_dim", 128)?,
        turned_dim: size("qk_rope_head_dim", 64)?,
        value_dim: size("v_head_dim", 128)?,
        // The reference implementation does not hand the model's own on to these norms.
        norm_epsilon: 1e-6,
    };
    description.head_dim = latent.plain_dim + latent.turned_dim;
    description.key_value_heads = description.heads;
    let magnitude = rope::read(configuration, description.rope_theta)?.score_magnitude;
    let scale = magnitude * magnitude / (description.head_dim as f64).sqrt();
    let variation = &mut description.variation;
    variation.attention.scale = (magnitude != 1.0).then_some(scale);
    variation.attention.latent = Some(latent);
    if let Positions::Rotary(turning) = &mut variation.positions {
        turning.pairs = pairs;
    }
    variation.biases = options::attention_bias(configuration, false)?;
    variation.neuron = Neuron::Gated(options::activation(configuration, "hidden_act", Activation::Silu)?);
    Ok(())
}

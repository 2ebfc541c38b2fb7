//! How large a model is, and what a token costs.

use serde::{Deserialize, Serialize};

use crate::description::Description;
use crate::parameters::{Layout, Role, Specification};

/// Exact numbers of parameters, and the cost of a token in multiply-adds.
///
/// Counted from the description alone, before any weight exists. They do not show time: a small expert costs more for
/// each operation than a wide matrix, and attention over short sequences costs less than counted here.
///
/// An example: a routed layer of 64 experts, eight for each token, adds all 64 to `parameters_total`, eight
/// to `parameters_active`, and twice the numbers of these eight to `flops_per_token`. Two models with the
/// same active parameters therefore cost a token about the same, however many experts they have, while the
/// memory for their weights follows the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All weights, embeddings and norms included. Selection biases are not counted: no gradient trains them.
    pub parameters_total: u64,
    /// Weights that one token meets: all, less those of the experts that it does not choose. A top-k-activation layer counts
    /// whole, for all its neurons are computed before the strongest are kept.
    pub parameters_active: u64,
    /// Embedding tables of tokens and positions, and the unembedding where it is another one.
    pub embedding: u64,
    /// Weights of all routers.
    pub router: u64,
    /// Floating-point operations of the forward pass for one token, a multiply-add counted as two: every matrix product
    /// (router and unembedding included) and attention over `max_positions / 2` keys. Norms, activations and the table look-up
    /// are left out. Training costs three times as much.
    pub flops_per_token: u64,
}

impl Description {
    /// Counts its parameters and operations. Absurd sizes give the largest number instead of running over.
    pub fn counts(&self) -> Counts {
        let layout = Layout::new(self);
        let table = product(self.vocab, self.d_model);
        let mut counts = Counts {
            parameters_total: 0,
            parameters_active: 0,
            embedding: 0,
            router: 0,
            flops_per_token: table.saturating_mul(2),
        };
        let grow = |count: &mut u64, by: u64| *count = count.saturating_add(by);
        for specification in &layout.specifications {
            let (total, active) = (specification.len(), self.active(specification));
            grow(&mut counts.parameters_total, total);
            grow(&mut counts.parameters_active, active);
            match specification.role {
                Role::Embedding => grow(&mut counts.embedding, total),
                Role::Norm | Role::Bias => continue,
                Role::Router { .. } => grow(&mut counts.router, total),
                Role::Reader | Role::Writer { .. } => {}
            }
            if specification.role != Role::Embedding {
                grow(&mut counts.flops_per_token, active.saturating_mul(2));
            }
        }
        let mixing = self.attention_mixing().saturating_mul(self.layers() as u64);
        grow(&mut counts.flops_per_token, mixing);
        counts
    }

    /// Numbers of a tensor that one token meets: all, but of the experts only those that it chooses.
    ///
    /// Which tensors hold experts is told by their names, of feed-forward experts and of experts for queries
    /// alike. A shared expert is met by every token and counts whole.
    fn active(&self, specification: &Specification) -> u64 {
        let total = specification.len();
        if let Some(chosen) = self.variation.attention.query_experts
            && specification.name.contains(".self_attn.experts.")
            && specification.shape.len() == 3
        {
            return total / chosen.experts as u64 * chosen.per_token as u64;
        }
        let Some((block, _)) = specification.name.split_once(".mlp.experts.") else { return total };
        let layer = block.rsplit('.').next().and_then(|layer| layer.parse::<usize>().ok());
        let routed = layer.and_then(|layer| self.feed_forward[layer].routed());
        routed.map_or(total, |routed| total / routed.experts as u64 * routed.per_token as u64)
    }

    /// Operations of scores and mixing for one query that sees half of the longest sequence.
    ///
    /// For one layer: a multiply-add, two operations, for each number of a key and of a value, over half of
    /// `max_positions` keys, which leaves a factor of one.
    fn attention_mixing(&self) -> u64 {
        let latent = self.variation.attention.latent.as_ref();
        let value_dim = latent.map_or(self.head_dim, |latent| latent.value_dim);
        product(self.heads, self.head_dim + value_dim).saturating_mul(self.max_positions as u64)
    }
}

/// In `u64`, so that sizes of large models fit on every machine; sizes that no machine can hold stay at the largest number.
fn product(a: usize, b: usize) -> u64 {
    (a as u64).saturating_mul(b as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{FeedForward, Routed, Router, RouterKind};
    use crate::testing;
    use crate::variation::Variation;

    #[test]
    fn a_dense_model_counted_by_hand() {
        let description = Description {
            vocab: 10,
            d_model: 4,
            heads: 2,
            key_value_heads: 1,
            head_dim: 2,
            rope_theta: 1e4,
            norm_epsilon: 1e-6,
            max_positions: 8,
            tied_embeddings: true,
            qk_norm: true,
            feed_forward: vec![FeedForward::Dense { width: 6 }],
            variation: Variation::default(),
        };
        let counts = description.counts();
        // Table 40; q 16, k 8, v 8, o 16; feed-forward 72; norms 4 + 4 + 4 and 2 + 2.
        assert_eq!(counts.parameters_total, 40 + 48 + 72 + 16);
        assert_eq!(counts.parameters_active, counts.parameters_total);
        assert_eq!(counts.embedding, 40);
        // Unembedding 40, attention 48, feed-forward 72 multiply-adds; scores and mixing 2 * 4 * 4 more.
        assert_eq!(counts.flops_per_token, 2 * (40 + 48 + 72 + 32));
    }

    #[test]
    fn a_token_meets_its_own_experts_and_the_whole_router() {
        let description = Description {
            feed_forward: vec![FeedForward::Routed(Routed {
                experts: 5,
                expert_width: 3,
                per_token: 2,
                router: Router::learned(true),
                shared: None,
            })],
            ..testing::dense_description()
        };
        let d = description.d_model as u64;
        let counts = description.counts();
        assert_eq!(counts.router, 5 * d);
        assert_eq!(counts.parameters_total - counts.parameters_active, 3 * (3 * 3 * d));
    }

    #[test]
    fn counts_agree_with_the_tensors() {
        for kind in [RouterKind::Learned, RouterKind::Hash { seed: 1 }, RouterKind::Frozen] {
            let description = testing::routed_description(Router { kind, ..Router::learned(false) });
            let tensors: u64 = Layout::new(&description).specifications.iter().map(|s| s.len()).sum();
            assert_eq!(description.counts().parameters_total, tensors);
        }
    }
}

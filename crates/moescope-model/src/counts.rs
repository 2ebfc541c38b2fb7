//! How large a model is, and what a token costs.

use serde::{Deserialize, Serialize};

use crate::description::{Description, FeedForward, Routed};

/// Exact numbers of parameters, and the cost of a token in multiply-adds.
///
/// Counted from the description alone, before any weight exists. They do not show time: a small expert costs more for
/// each operation than a wide matrix, and attention over short sequences costs less than counted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All weights, embeddings and norms included. Selection biases are not counted: no gradient trains them.
    pub parameters_total: u64,
    /// Weights that one token meets: all, less those of the experts that it does not choose. A top-k-activation layer counts
    /// whole, for all its neurons are computed before the strongest are kept.
    pub parameters_active: u64,
    /// Embedding table, and the unembedding where it is another one.
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
        let table = product(self.vocab, self.d_model);
        let embedding = if self.tied_embeddings { table } else { table.saturating_mul(2) };
        let attention = self.attention_matrices();
        let norms = 2 * self.d_model as u64 + if self.qk_norm { 2 * self.head_dim as u64 } else { 0 };
        let mut counts = Counts {
            parameters_total: embedding.saturating_add(self.d_model as u64),
            parameters_active: embedding.saturating_add(self.d_model as u64),
            embedding,
            router: 0,
            flops_per_token: table.saturating_mul(2),
        };
        let grow = |count: &mut u64, by: u64| *count = count.saturating_add(by);
        let block = attention.saturating_add(norms);
        for layer in &self.feed_forward {
            let size = layer.size(self.d_model);
            grow(&mut counts.parameters_total, block.saturating_add(size.total));
            grow(&mut counts.parameters_active, block.saturating_add(size.active));
            grow(&mut counts.router, size.router);
            grow(&mut counts.flops_per_token, attention.saturating_add(size.active).saturating_mul(2));
            grow(&mut counts.flops_per_token, self.attention_mixing());
        }
        counts
    }

    /// Weights of the four attention matrices of a block.
    fn attention_matrices(&self) -> u64 {
        let queries = product(self.heads, self.head_dim);
        let keys = product(self.key_value_heads, self.head_dim);
        queries.saturating_add(keys).saturating_mul(2).saturating_mul(self.d_model as u64)
    }

    /// Operations of scores and mixing for one query that sees half of the longest sequence.
    fn attention_mixing(&self) -> u64 {
        product(self.heads, self.head_dim).saturating_mul(2).saturating_mul(self.max_positions as u64)
    }
}

/// Weights of one feed-forward layer.
///
/// In single weights; norms stand outside, since every layer has the same.
struct LayerSize {
    /// All weights of the layer, router included.
    total: u64,
    /// Those that one token meets; multiply-adds of a token too, for each of them is used once.
    active: u64,
    /// The router matrix; 0 where the choice is a function of ids.
    router: u64,
}

impl FeedForward {
    /// Three matrices for a SwiGLU layer: gate, up and down.
    fn size(&self, d_model: usize) -> LayerSize {
        match self {
            FeedForward::Dense { width } | FeedForward::TopKDense { width, .. } => {
                let all = product(*width, d_model).saturating_mul(3);
                LayerSize { total: all, active: all, router: 0 }
            }
            FeedForward::Routed(routed) => routed.size(d_model),
        }
    }
}

impl Routed {
    /// The whole router, but only `per_token` of the experts, whichever a token chooses: all are of one width.
    fn size(&self, d_model: usize) -> LayerSize {
        let router = if self.router.kind.scores() { product(self.experts, d_model) } else { 0 };
        let expert = product(self.expert_width, d_model).saturating_mul(3);
        LayerSize {
            total: expert.saturating_mul(self.experts as u64).saturating_add(router),
            active: expert.saturating_mul(self.per_token as u64).saturating_add(router),
            router,
        }
    }
}

/// In `u64`, so that sizes of large models fit on every machine; sizes that no machine can hold stay at the largest number.
fn product(a: usize, b: usize) -> u64 {
    (a as u64).saturating_mul(b as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Router, RouterKind};
    use crate::parameters::Layout;
    use crate::testing;

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
            let tensors: usize =
                Layout::new(&description, false).specifications.iter().map(|s| s.len()).sum();
            assert_eq!(description.counts().parameters_total, tensors as u64);
        }
    }
}

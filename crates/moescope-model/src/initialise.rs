//! First weights.

use moescope_base::Seed;
use moescope_engine::Tensor;

use crate::description::{Description, FeedForward, Routed};
use crate::parameters::{Layout, Parameter, Role, Specification};
use crate::random::Normal;
use crate::router::{self, Selection};

/// Draws for the expectations below: the scale of a layer is then known to about one part in a hundred.
const DRAWS: usize = 256;

/// Weights for every tensor of the layout.
///
/// - Matrices: truncated normal (cut at two standard deviations, rescaled) with standard deviation `1 / sqrt(inputs)`.
/// - Embedding and unembedding: `1 / sqrt(d_model)`.
/// - Norms: ones; biases and sinks: zeros.
/// - Writers into the residual stream (`o_proj`, `down_proj`): further times `1 / sqrt(2 layers)`, so that the stream's variance
///   does not grow with depth.
/// - `down_proj` of experts: further divided by the expected norm of a token's routing weights, and of a top-k-activation layer
///   by the expected share of the norm that survives. Every family then writes as much into the stream at the first step, so
///   that differences in learning are not differences of initial scale. The expectation is taken over normal logits, as a fresh
///   router has them, with a fixed stream of draws.
///
/// Each tensor draws from a stream of its own name, so two models with the same tensor share its weights.
pub(crate) fn weights(description: &Description, layout: &Layout, seed: Seed) -> Vec<Parameter> {
    let factors = output_factors(description);
    let depth = (2.0 * description.layers() as f64).sqrt();
    let tensor = |specification: &Specification| {
        let inputs = *specification.shape.last().expect("every tensor has an axis") as f64;
        let deviation = match specification.role {
            Role::Norm => return Tensor::full(specification.shape.clone(), 1.0),
            Role::Bias => return Tensor::zeros(specification.shape.clone()),
            Role::Embedding | Role::Reader | Role::Router { .. } => 1.0 / inputs.sqrt(),
            Role::Writer { feed_forward: None } => 1.0 / (inputs.sqrt() * depth),
            Role::Writer { feed_forward: Some(layer) } => factors[layer] / (inputs.sqrt() * depth),
        };
        draw(specification, seed.child(&specification.name), deviation)
    };
    layout.specifications.iter().map(|s| s.with(tensor(s))).collect()
}

/// For each block, what `down_proj` is multiplied with so that the layer writes like a dense one; 1 for a dense one.
pub(crate) fn output_factors(description: &Description) -> Vec<f64> {
    // Most models have one kind of layer; the expectation behind a factor is worth taking once.
    let mut known: Vec<(&FeedForward, f64)> = Vec::new();
    let factor = |feed_forward| match known.iter().find(|(kind, _)| *kind == feed_forward) {
        Some((_, factor)) => *factor,
        None => {
            known.push((feed_forward, output_factor(feed_forward)));
            known[known.len() - 1].1
        }
    };
    description.feed_forward.iter().map(factor).collect()
}

/// Truncated normal numbers of this standard deviation, row-major from one stream.
fn draw(specification: &Specification, seed: Seed, deviation: f64) -> Tensor {
    let mut normal = Normal::new(seed);
    let mut tensor = Tensor::zeros(specification.shape.clone());
    for entry in tensor.data_mut() {
        *entry = (normal.truncated() * deviation) as f32;
    }
    tensor
}

/// What `down_proj` is multiplied with so that the layer writes like a dense one.
fn output_factor(feed_forward: &FeedForward) -> f64 {
    let mut normal = Normal::new(Seed(0).child("expected output scale"));
    let squared = match feed_forward {
        FeedForward::Dense { .. } => return 1.0,
        FeedForward::TopKDense { width, active } => surviving_share(&mut normal, *width, *active),
        FeedForward::Routed(routed) => squared_weights(&mut normal, routed),
    };
    1.0 / squared.sqrt()
}

/// Expected sum of squares of a token's routing weights.
fn squared_weights(normal: &mut Normal, routed: &Routed) -> f64 {
    if !routed.router.kind.scores() {
        return 1.0 / routed.per_token as f64;
    }
    let logits: Vec<f32> = (0..DRAWS * routed.experts).map(|_| normal.standard() as f32).collect();
    let weights = router::plain_weights(&logits, routed, &Selection::of(routed));
    weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / DRAWS as f64
}

/// Expected share of the sum of squares of a SwiGLU's hidden values that the largest carry.
fn surviving_share(normal: &mut Normal, width: usize, active: usize) -> f64 {
    let mut kept = 0.0;
    for _ in 0..DRAWS.min(64) {
        let hidden = |_| {
            let (gate, up) = (normal.standard(), normal.standard());
            (gate * up / (1.0 + (-gate).exp())).powi(2)
        };
        let mut squares: Vec<f64> = (0..width).map(hidden).collect();
        squares.sort_by(|a, b| b.total_cmp(a));
        kept += squares[..active].iter().sum::<f64>() / squares.iter().sum::<f64>();
    }
    kept / DRAWS.min(64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::{Order, Router, RouterKind, Score};

    fn factor(experts: usize, per_token: usize, router: Router) -> f64 {
        output_factor(&FeedForward::Routed(Routed {
            experts,
            expert_width: 4,
            per_token,
            router,
            shared: None,
        }))
    }

    #[test]
    fn weights_that_are_known_give_known_factors() {
        let hash = Router { kind: RouterKind::Hash { seed: 1 }, ..Router::learned(false) };
        assert!((factor(16, 4, hash) - 2.0).abs() < 1e-9);
        assert!((factor(1, 1, Router::learned(false)) - 1.0).abs() < 1e-6);
        let one = Router { order: Order::SelectThenScore, ..Router::learned(false) };
        assert!((factor(16, 1, one) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn raw_softmax_weights_need_a_larger_factor_than_renormalised() {
        let raw = factor(64, 8, Router::learned(false));
        let renormalised = factor(64, 8, Router::learned(true));
        // Uniform weights would give 64 / sqrt(8) and sqrt(8); the chosen stand above the mean.
        assert!(raw > 2.0 && raw < 64.0 / 8f64.sqrt(), "{raw}");
        assert!(renormalised > 1.5 && renormalised < 8f64.sqrt(), "{renormalised}");
        let sigmoid = factor(64, 8, Router { score: Score::Sigmoid, ..Router::learned(false) });
        assert!(sigmoid < 1.0, "{sigmoid}");
    }

    #[test]
    fn keeping_all_neurons_needs_no_factor() {
        let all = output_factor(&FeedForward::TopKDense { width: 8, active: 8 });
        assert!((all - 1.0).abs() < 1e-9);
        assert!(output_factor(&FeedForward::TopKDense { width: 64, active: 8 }) > 1.05);
    }
}

//! Softmax over the keys that a query sees, with a sink beside them.

use crate::AttentionRule;
use crate::cpu::chunks::{each, each_pair};
use crate::cpu::vector::{dot, exp, largest, sum, vectorised};
use crate::memory;

/// Entries of a softmax come in vectors of so many.
const WHOLE: usize = 32;

pub(crate) fn forward(scores: &[f32], sinks: Option<&[f32]>, rule: AttentionRule, out: &mut [f32]) {
    let layout = rule.layout;
    let positions = layout.positions.max(1);
    each(out, positions * positions, |start, out| {
        let head = start / (positions * positions) % layout.heads;
        for (query, out) in out.chunks_exact_mut(positions).enumerate() {
            let seen = rule.seen(query);
            let scores = &scores[start + query * positions..][..positions];
            // Whole vectors, as the plain pattern has them, so that both have the same bits.
            let padded = seen.start..seen.end.next_multiple_of(WHOLE).min(positions);
            out[seen.clone()].copy_from_slice(&scores[seen.clone()]);
            out[seen.end..padded.end].fill(f32::NEG_INFINITY);
            out[..seen.start].fill(0.0);
            out[padded.end..].fill(0.0);
            softmax(sinks.map(|sinks| sinks[head]), &mut out[padded]);
        }
    });
}

vectorised! {
    /// The largest entry, sink included, is taken off first, so that no exponential overflows.
    fn softmax<'a>(sink: Option<f32>, out: &'a mut [f32]) {
        let mut highest = largest(out);
        let sink = match sink {
            Some(sink) => {
                highest = if sink > highest { sink } else { highest };
                exp(sink - highest)
            }
            None => 0.0,
        };
        for entry in out.iter_mut() {
            *entry = exp(*entry - highest);
        }
        let scale = 1.0 / (sum(out) + sink);
        for entry in out.iter_mut() {
            *entry *= scale;
        }
    }
}

/// A sink's gradient is minus its share times the mean of what came back, summed over queries, then over sequences in order.
pub(crate) fn backward(
    pattern: &[f32],
    rule: AttentionRule,
    gradient: &mut [f32],
    sinks_gradient: Option<&mut [f32]>,
) {
    let positions = rule.layout.positions.max(1);
    let square = positions * positions;
    let mut pulls = memory::take(rule.layout.batch * rule.layout.heads); // [batch, head]
    each_pair((gradient, square), (&mut pulls, 1), |task, gradient, pull| {
        pull[0] = 0.0;
        for (query, gradient) in gradient.chunks_exact_mut(positions).enumerate() {
            let seen = rule.seen(query);
            let pattern = &pattern[task * square + query * positions..][..positions];
            gradient[..seen.start].fill(0.0);
            gradient[seen.end..].fill(0.0);
            pull[0] += softmax_backward(&pattern[seen.clone()], &mut gradient[seen]);
        }
    });
    if let Some(out) = sinks_gradient {
        out.fill(0.0);
        for pulls in pulls.chunks_exact(rule.layout.heads) {
            out.iter_mut().zip(pulls).for_each(|(out, pull)| *out += pull);
        }
    }
    memory::give_back(pulls);
}

vectorised! {
    /// The gradient of a row of scores in place, and what the row adds to the gradient of its sink.
    fn softmax_backward<'a>(pattern: &'a [f32], gradient: &'a mut [f32]) -> f32 {
        let mean = dot(pattern, gradient);
        for (gradient, &pattern) in gradient.iter_mut().zip(pattern) {
            *gradient = pattern * (*gradient - mean);
        }
        -mean * (1.0 - sum(pattern))
    }
}

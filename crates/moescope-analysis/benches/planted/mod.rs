//! Routes of a text that nobody wrote: words of uneven frequency, experts of uneven load.

use moescope_trace::{LayerRouting, RoutingTrace, TokenTable};

/// Numbers that look random, by SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (b ^ b >> 31) % limit
    }

    /// A number below the limit, small ones oftener, as words are.
    fn skewed(&mut self, limit: u64) -> u32 {
        let share = (self.below(1 << 30) as f64 / (1u64 << 30) as f64).powi(3);
        (share * limit as f64) as u32
    }
}

/// Where the draws of one stream of a part of the text begin.
fn seed(part: u64, stream: u64) -> u64 {
    stream + part.wrapping_mul(0x0123_4567_89ab_cdef)
}

fn tokens(part: u64, count: usize, vocabulary: u64) -> TokenTable {
    let mut draw = Draw(seed(part, 1));
    let ids: Vec<u32> = (0..count).map(|_| draw.skewed(vocabulary)).collect();
    TokenTable {
        next_ids: ids.iter().skip(1).chain([&0]).copied().collect(),
        // Whole documents are of one domain.
        domains: (0..count).map(|t| (t / 512 * 512 * 10 / count) as u16).collect(),
        documents: (0..count).map(|t| (t / 512) as u32).collect(),
        positions: (0..count).map(|t| (t % 128) as u32).collect(),
        classes: ids.iter().map(|id| (id % 7) as u16).collect(),
        domain_names: (0..10).map(|d| format!("domain {d}")).collect(),
        class_names: (0..7).map(|c| format!("class {c}")).collect(),
        ids,
    }
}

fn layer(part: u64, tokens: usize, layer: usize, experts: usize, per_token: usize) -> LayerRouting {
    let mut draw = Draw(seed(part, 7 + layer as u64));
    let mut choices = Vec::with_capacity(tokens * per_token);
    for _ in 0..tokens {
        let start = choices.len();
        while choices.len() < start + per_token {
            let expert = draw.skewed(experts as u64);
            if !choices[start..].contains(&expert) {
                choices.push(expert);
            }
        }
    }
    let numbers: Vec<f32> = (0..tokens).map(|_| draw.below(1 << 20) as f32 / (1 << 20) as f32).collect();
    LayerRouting {
        layer,
        experts,
        per_token,
        weights: vec![1.0 / per_token as f32; choices.len()],
        choices,
        entropy: numbers.clone(),
        margin: numbers.clone(),
        relative_margin: numbers,
    }
}

/// A trace of so many tokens through layers of one shape; parts of one text differ in their number.
pub(crate) fn trace(
    part: u64,
    count: usize,
    vocabulary: u64,
    layers: usize,
    experts: usize,
    per_token: usize,
) -> RoutingTrace {
    let all = (0..layers).map(|l| layer(part, count, l, experts, per_token)).collect();
    RoutingTrace::new(tokens(part, count, vocabulary), all).expect("the columns have equal lengths")
}

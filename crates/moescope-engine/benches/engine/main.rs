//! How fast a whole training step is, against the machine's own dense product in the same run.
//!
//! `cargo bench -p moescope-engine -- [small|large|all] [dense|moe|moe1|moe8|moe32|idle|all] [repetitions]` prints, for each decoder, a step's
//! time on one thread, its floating-point operations per second, the share of the dense product's rate, and where the time
//! goes. Operations counted: `6 × active parameters × tokens`, and attention over the causal half. `idle` has 64 experts that
//! are chosen and up to 960 that no token is sent to.

use std::sync::Arc;
use std::time::Instant;

use moescope_engine::optimizer::{AdamW, adamw_step};
use moescope_engine::{
    AttentionLayout, AttentionShape, Cpu, EngineError, Mode, ParameterId, Profiler, Rotary, RoutePlan, Tape,
    Tensor, Var,
};

mod timing;
use timing::processor_seconds;

/// Dense products of each turn.
const PRODUCTS: usize = 8;

/// A decoder: pre-norm, rotary attention with head norms, SwiGLU or its experts.
#[derive(Clone, Copy)]
struct Sizes {
    name: &'static str,
    width: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    vocabulary: usize,
    batch: usize,
    positions: usize,
    /// Expansion and granularity; `None` is dense.
    experts: Option<(usize, usize)>,
    /// Experts that nobody chooses.
    idle: usize,
}

const LARGE: Sizes = Sizes {
    name: "large",
    width: 256,
    layers: 4,
    heads: 8,
    hidden: 1024,
    vocabulary: 4096,
    batch: 8,
    positions: 256,
    experts: None,
    idle: 0,
};
const SMALL: Sizes = Sizes {
    name: "small",
    width: 64,
    layers: 2,
    heads: 4,
    hidden: 256,
    vocabulary: 1024,
    batch: 8,
    positions: 128,
    experts: None,
    idle: 0,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let chosen = |at: usize| arguments.get(at).map_or("all", String::as_str);
    let repetitions: usize = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(9);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    for sizes in [SMALL, LARGE].into_iter().filter(|sizes| ["all", sizes.name].contains(&chosen(0))) {
        for (kind, experts, idle) in [
            ("dense", None, 0),
            ("moe1", Some((8, 1)), 0),
            ("moe8", Some((8, 8)), 0),
            ("moe32", Some((8, 32)), 0),
            ("idle", Some((8, 8)), 0),
            ("idle", Some((8, 8)), 192),
            ("idle", Some((8, 8)), 960),
        ] {
            if chosen(1) == "all" || kind.starts_with(chosen(1)) {
                pool.install(|| report(Sizes { experts, idle, ..sizes }, repetitions));
            }
        }
    }
}

fn report(sizes: Sizes, repetitions: usize) {
    let mut model = Model::new(sizes);
    for _ in 0..2 {
        model.train(&Cpu, 1).expect("a step on sizes that fit");
    }
    // Steps and dense products take turns, so that a busy machine slows both alike.
    let (mut wall, mut steps, mut products) = (Vec::new(), 0.0, 0.0);
    for index in 0..repetitions {
        products += processor_seconds(|| {
            moescope_engine::measure::gemm_rate(1024, 512, 1024, PRODUCTS - 1);
        });
        let start = Instant::now();
        steps += processor_seconds(|| model.train(&Cpu, 2 + index as u64).expect("a step on sizes that fit"));
        wall.push(start.elapsed().as_secs_f64());
    }
    wall.sort_by(f64::total_cmp);
    let step = steps / repetitions as f64;
    let own = model.operations_per_step() / step / 1e9;
    let product = 2.0 * (1024 * 512 * 1024 * PRODUCTS * repetitions) as f64 / products / 1e9;
    println!("{} {:?} (expansion, granularity), {} idle experts:", sizes.name, sizes.experts, sizes.idle);
    println!("    wall time: best {:.2} ms, median {:.2} ms", wall[0] * 1e3, wall[repetitions / 2] * 1e3);
    println!(
        "    processor time: {:.2} ms, {:.0} tokens per core-second, {own:.1} GFLOP/s = {:.0} % of the dense product's {product:.1}",
        step * 1e3,
        (sizes.batch * sizes.positions) as f64 / step,
        100.0 * own / product,
    );
    let profiler = Profiler::default();
    for _ in 0..repetitions {
        model.train(&profiler, 100).expect("a step on sizes that fit");
    }
    timing::print(&profiler);
}

struct Model {
    sizes: Sizes,
    rotary: Rotary,
    weights: Vec<Tensor>,
    moments: Vec<(Vec<f32>, Vec<f32>)>,
    ids: Vec<u32>,
    targets: Vec<u32>,
    plan: Option<Arc<RoutePlan>>,
}

/// Numbers without a pattern that a cache or predictor could use.
fn noise(length: usize, scale: f32, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..length).map(|_| scale * next()).collect()
}

impl Model {
    fn new(sizes: Sizes) -> Self {
        let Sizes { width, hidden, vocabulary, .. } = sizes;
        let head = width / sizes.heads;
        let mut shapes = vec![vec![vocabulary, width]];
        for _ in 0..sizes.layers {
            shapes.extend([vec![width], vec![width], vec![head], vec![head]]);
            shapes.extend([(); 4].map(|()| vec![width, width]));
            match sizes.experts {
                None => shapes.extend([vec![hidden, width], vec![hidden, width], vec![width, hidden]]),
                Some((expansion, granularity)) => {
                    let (n, size) = (expansion * granularity + sizes.idle, hidden / granularity);
                    shapes.extend([
                        vec![n, size, width],
                        vec![n, size, width],
                        vec![n, width, size],
                        vec![n, width],
                    ]);
                }
            }
        }
        shapes.extend([vec![width], vec![vocabulary, width]]);
        let weight = |(index, shape): (usize, &Vec<usize>)| {
            let length = shape.iter().product();
            let scale = if shape.len() == 1 { 1.0 } else { 0.05 };
            Tensor::new(shape.clone(), noise(length, scale, index as u32)).expect("a shape that fits")
        };
        let weights: Vec<Tensor> = shapes.iter().enumerate().map(weight).collect();
        let tokens = sizes.batch * sizes.positions;
        let id = |x: &f32| ((x + 1.0) / 2.0 * vocabulary as f32) as u32 % vocabulary as u32;
        let draw = |seed| noise(tokens, 1.0, seed).iter().map(id).collect();
        Self {
            rotary: Rotary::new(head, 10_000.0, sizes.positions),
            moments: weights
                .iter()
                .map(|weight| (vec![0.0; weight.len()], vec![0.0; weight.len()]))
                .collect(),
            weights,
            ids: draw(1000),
            targets: draw(1001),
            plan: sizes.experts.map(|(expansion, granularity)| {
                plan(tokens, expansion * granularity, granularity, sizes.idle)
            }),
            sizes,
        }
    }

    fn operations_per_step(&self) -> f64 {
        let Sizes { width, layers, batch, positions, .. } = self.sizes;
        let tokens = (batch * positions) as f64;
        let share = |tensor: &Tensor| match (tensor.shape().len(), self.sizes.experts) {
            (1, _) => 0.0,
            (3, Some((_, per_token))) => (tensor.len() / tensor.shape()[0] * per_token) as f64,
            _ => tensor.len() as f64,
        };
        // The embedding is a copy, not a product.
        let active: f64 = self.weights[1..].iter().map(share).sum();
        let attention = 6.0 * tokens * (layers * positions * width) as f64;
        6.0 * active * tokens + attention
    }

    fn train(&mut self, device: &dyn moescope_engine::Device, step: u64) -> Result<(), EngineError> {
        let mut tape = Tape::on(device, Mode::Gradient);
        let loss = self.forward(&mut tape)?;
        let gradients = tape.backward(loss)?;
        drop(tape);
        let settings =
            AdamW { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 };
        for (index, (weight, (first, second))) in self.weights.iter_mut().zip(&mut self.moments).enumerate() {
            let id = ParameterId(index);
            for reached in gradients.reached(id) {
                adamw_step(
                    device,
                    &settings,
                    step,
                    &mut weight.data_mut()[reached.clone()],
                    &gradients.parameter(id).expect("what was reached has a gradient").data()
                        [reached.clone()],
                    1.0,
                    &mut first[reached.clone()],
                    &mut second[reached],
                    true,
                );
            }
        }
        Ok(())
    }

    fn forward<'w>(&'w self, tape: &mut Tape<'w>) -> Result<Var, EngineError> {
        let mut weights = self.weights.iter().enumerate();
        let mut next = |tape: &mut Tape<'w>| {
            let (index, weight) = weights.next().expect("a weight for each use");
            tape.parameter(ParameterId(index), weight)
        };
        let table = next(tape);
        let mut x = tape.embedding(table, &self.ids)?;
        for _ in 0..self.sizes.layers {
            let [norm, norm_after, q_norm, k_norm, q, k, v, o] = std::array::from_fn(|_| next(tape));
            let input = tape.rms_norm(x, norm, 1e-6)?;
            let attended = self.attend(tape, input, [q_norm, k_norm, q, k, v, o])?;
            x = tape.add(x, attended)?;
            let input = tape.rms_norm(x, norm_after, 1e-6)?;
            let [gate, up, down] = std::array::from_fn(|_| next(tape));
            let router = self.plan.as_ref().map(|_| next(tape));
            let out = self.feed_forward(tape, input, [gate, up, down], router)?;
            x = tape.add(x, out)?;
        }
        let norm = next(tape);
        let head = next(tape);
        let x = tape.rms_norm(x, norm, 1e-6)?;
        let logits = tape.linear(x, head)?;
        tape.cross_entropy(logits, &self.targets)
    }

    fn attend(
        &self,
        tape: &mut Tape<'_>,
        x: Var,
        [q_norm, k_norm, q, k, v, o]: [Var; 6],
    ) -> Result<Var, EngineError> {
        let Sizes { batch, positions, heads, width, .. } = self.sizes;
        let layout =
            AttentionLayout { batch, positions, heads, key_value_heads: heads, head_dim: width / heads };
        let q = tape.linear(x, q)?;
        let k = tape.linear(x, k)?;
        let v = tape.linear(x, v)?;
        let q = tape.head_norm_rotary(q, Some(q_norm), 1e-6, &self.rotary, heads, positions)?;
        let k = tape.head_norm_rotary(k, Some(k_norm), 1e-6, &self.rotary, heads, positions)?;
        let mixed = tape.attention(q, k, v, AttentionShape { layout, value_dim: layout.head_dim })?;
        tape.linear(mixed, o)
    }

    fn feed_forward(
        &self,
        tape: &mut Tape<'_>,
        x: Var,
        [gate, up, down]: [Var; 3],
        router: Option<Var>,
    ) -> Result<Var, EngineError> {
        let (Some(plan), Some(router)) = (&self.plan, router) else {
            let (gate, up) = (tape.linear(x, gate)?, tape.linear(x, up)?);
            let hidden = tape.swiglu(gate, up)?;
            return tape.linear(hidden, down);
        };
        let logits = tape.linear(x, router)?;
        let scores = tape.softmax(logits)?;
        let weights = tape.gather_columns(scores, plan.choices(), plan.per_token())?;
        let weights = tape.renormalise(weights)?;
        let (gate, up) = (tape.expert_input(x, gate, plan)?, tape.expert_input(x, up, plan)?);
        let hidden = tape.swiglu(gate, up)?;
        tape.expert_output(hidden, down, weights, plan)
    }
}

/// An even load in an order without pattern: the plan of a trained router costs as much.
fn plan(tokens: usize, experts: usize, per_token: usize, idle: usize) -> Arc<RoutePlan> {
    let mut choices = Vec::with_capacity(tokens * per_token);
    for (token, start) in noise(tokens, 1.0, 7).iter().enumerate() {
        let first = ((start + 1.0) * experts as f32) as usize + token;
        // An odd stride visits distinct experts when their number is a power of two.
        let stride = 2 * (token * 31 % experts) + 1;
        choices.extend((0..per_token).map(|slot| ((first + slot * stride) % experts) as u32));
    }
    Arc::new(RoutePlan::new(&choices, experts + idle, per_token).expect("distinct experts"))
}

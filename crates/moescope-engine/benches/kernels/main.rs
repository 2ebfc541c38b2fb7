//! How fast each product of a training step is, against the `gemm` crate on a product of the same size in the same run.
//!
//! `cargo bench -p moescope-engine --bench kernels -- [repetitions] [kernel]` prints, for each kernel and shape, the rate of the fastest
//! repetition on one thread, that of gemm, and their ratio. The experts' kernels do more than a product, since they read rows by
//! name, weight them and add them to tokens; gemm's time is that of the bare products, one for each expert, on rows that lie
//! ready.

use std::time::Instant;

use moescope_engine::{AttentionLayout, AttentionShape, Cpu, Device, LinearShape, RoutePlan, measure};

/// Tokens of a step.
const TOKENS: usize = 2048;
/// Width of the residual stream.
const WIDTH: usize = 256;
/// Total over active feed-forward width.
const EXPANSION: usize = 8;
/// Active feed-forward width.
const HIDDEN: usize = 1024;

fn main() {
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let repetitions: usize = wanted.unwrap_or(15);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    println!(
        "{:<24} {:>22} {:>9} {:>9} {:>7}",
        "kernel", "rows × inner × columns", "GFLOP/s", "gemm", "ratio"
    );
    pool.install(|| {
        for (inputs, outputs) in [(256, 256), (256, 1024), (1024, 256), (256, 4096)] {
            dense(LinearShape { rows: TOKENS, inputs, outputs }, repetitions);
        }
        attention(repetitions);
        for granularity in [1, 8, 32, 128] {
            experts(granularity, repetitions);
        }
    });
}

/// Numbers without a pattern.
fn noise(length: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Prints a line for `count` products of this size.
fn line(
    name: &str,
    count: usize,
    (rows, inner, columns): (usize, usize, usize),
    repetitions: usize,
    mut work: impl FnMut(),
) {
    let asked = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-') && argument.parse::<usize>().is_err());
    if asked.is_some_and(|asked| asked != name) {
        return;
    }
    // They take turns, so that a busy machine slows both alike, and each finds its operands warm.
    let (mut rate, mut gemm) = (0f64, 0f64);
    for _ in 0..repetitions {
        work();
        let start = Instant::now();
        work();
        let seconds = start.elapsed().as_secs_f64();
        rate = rate.max(2.0 * (count * rows * inner * columns) as f64 / seconds / 1e9);
        gemm = gemm.max(measure::gemm_rate(rows, inner, columns, count.min(16)).best);
    }
    let size = format!("{count} × {rows} × {inner} × {columns}");
    println!("{name:<24} {size:>22} {rate:>9.1} {gemm:>9.1} {:>7.2}", rate / gemm);
}

fn dense(shape: LinearShape, repetitions: usize) {
    let LinearShape { rows, inputs, outputs } = shape;
    let (x, weight, gradient) =
        (noise(rows * inputs, 1), noise(outputs * inputs, 2), noise(rows * outputs, 3));
    let mut out = vec![0.0; rows * outputs];
    line("linear", 1, (rows, inputs, outputs), repetitions, || Cpu.linear(&x, &weight, shape, &mut out));
    let mut out = vec![0.0; rows * inputs];
    line("linear_input", 1, (rows, outputs, inputs), repetitions, || {
        Cpu.linear_input(&gradient, &weight, shape, &mut out, false);
    });
    let mut out = vec![0.0; outputs * inputs];
    line("linear_weight", 1, (outputs, rows, inputs), repetitions, || {
        Cpu.linear_weight(&gradient, &x, shape, &mut out, false);
    });
}

/// Sequences of 256 tokens with heads of 32: two products over half of all pairs are the operations of one, four those of two.
fn attention(repetitions: usize) {
    let (positions, head_dim) = (256, 32);
    let (batch, heads) = (TOKENS / positions, WIDTH / head_dim);
    let layout = AttentionLayout { batch, positions, heads, key_value_heads: heads, head_dim };
    let shape = AttentionShape { layout, value_dim: head_dim };
    let [q, k, v, gradient] = [1, 2, 3, 4].map(|seed| noise(TOKENS * WIDTH, seed));
    let mut out = vec![0.0; TOKENS * WIDTH];
    let size = (positions, head_dim, positions);
    line("attention", batch * heads, size, repetitions, || Cpu.attention(&q, &k, &v, shape, &mut out));
    let (mut k_gradient, mut v_gradient) = (out.clone(), out.clone());
    line("attention_backward", 2 * batch * heads, size, repetitions, || {
        Cpu.attention_backward(&q, &k, &v, &gradient, shape, &mut out, &mut k_gradient, &mut v_gradient);
    });
}

fn experts(granularity: usize, repetitions: usize) {
    let (count, hidden) = (EXPANSION * granularity, HIDDEN / granularity);
    let plan = plan(count, granularity);
    let rows = plan.rows() / count;
    let tokens = noise(TOKENS * WIDTH, 1);
    let slots = noise(plan.rows() * hidden, 2);
    let weight = noise(count * hidden * WIDTH, 3);
    let factors = noise(plan.rows(), 4);
    let up = LinearShape { rows: plan.rows(), inputs: WIDTH, outputs: hidden };
    let down = LinearShape { rows: plan.rows(), inputs: hidden, outputs: WIDTH };
    let (mut to_slots, mut to_tokens) = (vec![0.0; slots.len()], vec![0.0; tokens.len()]);
    let mut to_weight = vec![0.0; weight.len()];
    let (forward, back, sum) = ((rows, WIDTH, hidden), (rows, hidden, WIDTH), (hidden, rows, WIDTH));
    line("expert_input", count, forward, repetitions, || {
        Cpu.expert_input(&tokens, &weight, &plan, up, &mut to_slots);
    });
    line("expert_input_tokens", count, back, repetitions, || {
        Cpu.expert_input_tokens(&slots, &weight, &plan, up, &mut to_tokens, false);
    });
    line("expert_input_weight", count, sum, repetitions, || {
        Cpu.expert_input_weight(&slots, &tokens, &plan, up, &mut to_weight, false);
    });
    line("expert_output", count, back, repetitions, || {
        Cpu.expert_output(&slots, &weight, &factors, &plan, down, &mut to_tokens);
    });
    line("expert_output_backward", count, forward, repetitions, || {
        Cpu.expert_output_backward(&tokens, &slots, &weight, &factors, &plan, down, &mut to_slots, None);
    });
    line("expert_output_weight", count, sum, repetitions, || {
        Cpu.expert_output_weight(&tokens, &slots, &factors, &plan, down, &mut to_weight, false);
    });
}

/// An even load in an order without pattern.
fn plan(experts: usize, per_token: usize) -> RoutePlan {
    let mut choices = Vec::with_capacity(TOKENS * per_token);
    for (token, start) in noise(TOKENS, 7).iter().enumerate() {
        let first = ((start + 1.0) * experts as f32) as usize + token;
        // An odd stride visits distinct experts when their number is a power of two.
        let stride = 2 * (token * 31 % experts) + 1;
        choices.extend((0..per_token).map(|slot| ((first + slot * stride) % experts) as u32));
    }
    RoutePlan::new(&choices, experts, per_token).expect("distinct experts")
}

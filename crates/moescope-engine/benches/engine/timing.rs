//! A device that computes on the CPU and notes how long each kernel takes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use moescope_engine::{
    AdamWStep, AttentionLayout, Cpu, Device, HeadShape, LinearShape, MixReach, Rotary, RoutePlan,
};

/// Seconds that this thread spent on a processor during `work`, to a few milliseconds: what others do on the machine does not
/// count. Wall time where the system does not tell.
pub(crate) fn processor_seconds(work: impl FnOnce()) -> f64 {
    let now = || {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse::<f64>().ok()
    };
    let (start, clock) = (now(), Instant::now());
    work();
    match (start, now()) {
        (Some(start), Some(end)) => (end - start) / 1e9,
        _ => clock.elapsed().as_secs_f64(),
    }
}

/// Calls, seconds, and least seconds of one call, of each kernel.
#[derive(Default)]
pub(crate) struct Timed {
    kernels: Mutex<BTreeMap<&'static str, (usize, f64, f64)>>,
}

impl Timed {
    fn time<R>(&self, name: &'static str, kernel: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = kernel();
        let seconds = start.elapsed().as_secs_f64();
        let mut kernels = self.kernels.lock().expect("no kernel panics");
        let (calls, total, least) = kernels.entry(name).or_insert((0, 0.0, f64::INFINITY));
        (*calls, *total, *least) = (*calls + 1, *total + seconds, least.min(seconds));
        result
    }

    /// Each kernel's share of all kernels of the tape (AdamW is none), and its mean and least time, largest share first.
    pub(crate) fn print(&self) {
        let kernels = self.kernels.lock().expect("no kernel panics");
        let all: f64 = kernels.values().map(|(_, seconds, _)| seconds).sum();
        let mut sorted: Vec<_> = kernels.iter().collect();
        sorted.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (name, &(calls, seconds, least)) in sorted {
            let (share, mean) = (100.0 * seconds / all, seconds / calls as f64);
            println!(
                "    {share:>5.1} %  mean {:>9.1} us, least {:>9.1} us  {name}",
                mean * 1e6,
                least * 1e6
            );
        }
    }
}

/// Hands every kernel to the CPU with a clock around it.
macro_rules! timed {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        impl moescope_engine::FamilyKernels for Timed {}
        impl Device for Timed {
            $(fn $name(&self, $($argument: $type),*) $(-> $result)? {
                self.time(stringify!($name), || Cpu.$name($($argument),*))
            })*
        }
    };
}

timed! {
    embedding(table: &[f32], ids: &[u32], out: &mut [f32]);
    embedding_backward(gradient: &[f32], ids: &[u32], table_gradient: &mut [f32]);
    linear(x: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32]);
    linear_input(gradient: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32], accumulate: bool);
    linear_weight(gradient: &[f32], x: &[f32], shape: LinearShape, out: &mut [f32], accumulate: bool);
    rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]);
    rms_norm_backward(x: &[f32], weight: &[f32], epsilon: f32, gradient: &[f32], x_gradient: &mut [f32], weight_gradient: &mut [f32]);
    head_norm_rotary(x: &[f32], weight: Option<&[f32]>, rotary: &Rotary, shape: HeadShape, out: &mut [f32]);
    head_norm_rotary_backward(x: &[f32], weight: Option<&[f32]>, rotary: &Rotary, shape: HeadShape, gradient: &mut [f32], weight_gradient: Option<&mut [f32]>);
    add_scaled(a: &[f32], b: &[f32], factor: f32, out: &mut [f32]);
    accumulate(into: &mut [f32], from: &[f32]);
    scale(x: &[f32], factor: f32, out: &mut [f32]);
    swiglu(gate: &[f32], up: &[f32], out: &mut [f32]);
    swiglu_backward(gate: &[f32], up: &[f32], gradient: &mut [f32], gate_gradient: &mut [f32]);
    sigmoid(x: &[f32], out: &mut [f32]);
    sigmoid_backward(y: &[f32], gradient: &mut [f32]);
    softmax(x: &[f32], columns: usize, out: &mut [f32]);
    softmax_backward(y: &[f32], columns: usize, gradient: &mut [f32]);
    renormalise(x: &[f32], columns: usize, out: &mut [f32]);
    renormalise_backward(x: &[f32], columns: usize, gradient: &mut [f32]);
    top_k_activation(x: &[f32], columns: usize, k: usize, out: &mut [f32], kept: &mut [u32]);
    gather_columns(x: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]);
    scatter_columns(gradient: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]);
    attention_pattern(q: &[f32], k: &[f32], layout: AttentionLayout, out: &mut [f32]);
    attention_pattern_backward(q: &[f32], k: &[f32], pattern: &[f32], gradient: &mut [f32], layout: AttentionLayout, q_gradient: &mut [f32], k_gradient: &mut [f32]);
    attention_mix(pattern: &[f32], v: &[f32], layout: AttentionLayout, causal: bool, out: &mut [f32]);
    attention_mix_backward(pattern: &[f32], v: &[f32], gradient: &[f32], layout: AttentionLayout, reach: MixReach, pattern_gradient: Option<&mut [f32]>, v_gradient: Option<&mut [f32]>);
    expert_input(x: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]);
    expert_input_tokens(gradient: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool);
    expert_input_weight(gradient: &[f32], x: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool);
    expert_output(rows: &[f32], weight: &[f32], factors: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]);
    expert_output_backward(gradient: &[f32], rows: &[f32], weight: &[f32], factors: &[f32], plan: &RoutePlan, shape: LinearShape, rows_gradient: &mut [f32], factors_gradient: Option<&mut [f32]>);
    expert_output_weight(gradient: &[f32], rows: &[f32], factors: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool);
    expert_linear(rows: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]);
    expert_linear_input(gradient: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool);
    expert_linear_weight(gradient: &[f32], rows: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool);
    expert_combine(rows: &[f32], weights: &[f32], plan: &RoutePlan, out: &mut [f32]);
    expert_combine_backward(rows: &[f32], weights: &[f32], plan: &RoutePlan, gradient: &[f32], rows_gradient: Option<&mut [f32]>, weights_gradient: Option<&mut [f32]>);
    balance_loss(scores: &[f32], plan: &RoutePlan) -> f32;
    balance_loss_backward(scores: &[f32], plan: &RoutePlan, factor: f32, out: &mut [f32]);
    log_sum_exp(x: &[f32], columns: usize, out: &mut [f32]);
    scaled_softmax(x: &[f32], log_sums: &[f32], factors: &[f32], targets: Option<&[u32]>, out: &mut [f32]);
    sum_product(x: &[f32], with: &[f32]) -> f32;
    adamw(step: &AdamWStep, weight: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]);
}

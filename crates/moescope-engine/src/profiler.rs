//! Where the time goes: a device that hands every kernel to the CPU and notes what it took.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::{
    AdamWStep, AttentionLayout, AttentionShape, Cpu, Device, DictionaryKernels, FamilyKernels, HeadShape,
    LinearShape, MixReach, Rotary, RoutePlan,
};

/// The CPU with a clock around every kernel of [`Device`]. Its results have the bits of [`Cpu`]. The kernels of
/// [`FamilyKernels`], which only downloaded models need, and [`DictionaryKernels`] run without a clock.
///
/// ```
/// use moescope_engine::{Mode, Profiler, Tape, Tensor};
///
/// let profiler = Profiler::default();
/// let mut tape = Tape::on(&profiler, Mode::Inference);
/// let (x, weight) = (tape.constant(Tensor::full([4, 3], 1.0)), tape.constant(Tensor::full([2, 3], 1.0)));
/// tape.linear(x, weight)?;
/// let kernels = profiler.kernels();
/// assert_eq!((kernels[0].name, kernels[0].operations), ("linear", 2 * 4 * 3 * 2));
/// # Ok::<(), moescope_engine::EngineError>(())
/// ```
#[derive(Default)]
pub struct Profiler {
    kernels: Mutex<BTreeMap<&'static str, KernelProfile>>,
}

/// What one kernel took, all its calls together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelProfile {
    /// As in [`Device`].
    pub name: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// Seconds by the clock, all threads at work.
    pub seconds: f64,
    /// Seconds of its fastest call.
    pub least: f64,
    /// Floating-point operations of its matrix products; of attention over the causal half. Elementwise arithmetic counts
    /// nothing.
    pub operations: u64,
    /// Bytes of its arguments and results: what it must move at least. Rows that are read again, or gathered, count once.
    pub bytes: u64,
}

impl Profiler {
    /// What every kernel that ran has taken so far, the longest first.
    pub fn kernels(&self) -> Vec<KernelProfile> {
        let mut all: Vec<_> = self.kernels.lock().expect("no kernel panics").values().copied().collect();
        all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        all
    }

    fn note<R>(&self, name: &'static str, operations: u64, bytes: u64, kernel: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = kernel();
        let seconds = start.elapsed().as_secs_f64();
        let mut kernels = self.kernels.lock().expect("no kernel panics");
        let empty =
            KernelProfile { name, calls: 0, seconds: 0.0, least: f64::INFINITY, operations: 0, bytes: 0 };
        let sum = kernels.entry(name).or_insert(empty);
        sum.calls += 1;
        sum.seconds += seconds;
        sum.least = sum.least.min(seconds);
        sum.operations += operations;
        sum.bytes += bytes;
        result
    }
}

/// Operations of `rows` rows through a matrix of this shape.
fn product(rows: usize, shape: LinearShape) -> u64 {
    2 * (rows * shape.inputs * shape.outputs) as u64
}

/// Operations of one product over the causal half of all heads.
fn attention(layout: AttentionLayout) -> u64 {
    let pairs = layout.positions * (layout.positions + 1) / 2;
    2 * (layout.batch * layout.heads * pairs * layout.head_dim) as u64
}

/// How many bytes of numbers an argument of a kernel holds.
trait Moved {
    fn bytes(&self) -> u64 {
        0
    }
}

macro_rules! slices {
    ($($slice:ty),*) => {
        $(impl Moved for $slice {
            fn bytes(&self) -> u64 {
                4 * self.len() as u64
            }
        })*
    };
}

macro_rules! no_numbers {
    ($($kind:ty),*) => {
        $(impl Moved for $kind {})*
    };
}

slices!(&[f32], &mut [f32], &[u32], &mut [u32]);
no_numbers!(
    f32,
    usize,
    bool,
    LinearShape,
    HeadShape,
    AttentionLayout,
    AttentionShape,
    MixReach,
    &Rotary,
    &RoutePlan,
    &AdamWStep
);

impl<T: Moved> Moved for Option<T> {
    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, Moved::bytes)
    }
}

impl FamilyKernels for Profiler {}

impl DictionaryKernels for Profiler {}

/// One line for each kernel: its signature, and the operations of its products.
macro_rules! profiled {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $operations:expr;)*) => {
        impl Device for Profiler {
            $(fn $name(&self, $($argument: $type),*) $(-> $result)? {
                let bytes = [$(Moved::bytes(&$argument)),*].iter().sum();
                self.note(stringify!($name), $operations, bytes, || Cpu.$name($($argument),*))
            })*
        }
    };
}

#[rustfmt::skip]
profiled! {
    embedding(table: &[f32], ids: &[u32], out: &mut [f32]) = 0;
    embedding_backward(gradient: &[f32], ids: &[u32], table_gradient: &mut [f32]) = 0;
    linear(x: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32]) = product(shape.rows, shape);
    linear_input(gradient: &[f32], weight: &[f32], shape: LinearShape, out: &mut [f32], accumulate: bool) = product(shape.rows, shape);
    linear_weight(gradient: &[f32], x: &[f32], shape: LinearShape, out: &mut [f32], accumulate: bool) = product(shape.rows, shape);
    rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = 0;
    rms_norm_backward(x: &[f32], weight: &[f32], epsilon: f32, gradient: &[f32], x_gradient: &mut [f32], weight_gradient: &mut [f32]) = 0;
    head_norm_rotary(x: &[f32], weight: Option<&[f32]>, rotary: &Rotary, shape: HeadShape, out: &mut [f32]) = 0;
    head_norm_rotary_backward(x: &[f32], weight: Option<&[f32]>, rotary: &Rotary, shape: HeadShape, gradient: &mut [f32], weight_gradient: Option<&mut [f32]>) = 0;
    add_scaled(a: &[f32], b: &[f32], factor: f32, out: &mut [f32]) = 0;
    accumulate(into: &mut [f32], from: &[f32]) = 0;
    scale(x: &[f32], factor: f32, out: &mut [f32]) = 0;
    swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = 0;
    swiglu_backward(gate: &[f32], up: &[f32], gradient: &mut [f32], gate_gradient: &mut [f32]) = 0;
    sigmoid(x: &[f32], out: &mut [f32]) = 0;
    sigmoid_backward(y: &[f32], gradient: &mut [f32]) = 0;
    softmax(x: &[f32], columns: usize, out: &mut [f32]) = 0;
    softmax_backward(y: &[f32], columns: usize, gradient: &mut [f32]) = 0;
    renormalise(x: &[f32], columns: usize, out: &mut [f32]) = 0;
    renormalise_backward(x: &[f32], columns: usize, gradient: &mut [f32]) = 0;
    top_k_activation(x: &[f32], columns: usize, k: usize, out: &mut [f32], kept: &mut [u32]) = 0;
    gather_columns(x: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]) = 0;
    scatter_columns(gradient: &[f32], columns: usize, indices: &[u32], per_row: usize, out: &mut [f32]) = 0;
    attention(q: &[f32], k: &[f32], v: &[f32], shape: AttentionShape, out: &mut [f32]) = attention(shape.layout) + attention(shape.values());
    attention_backward(q: &[f32], k: &[f32], v: &[f32], gradient: &[f32], shape: AttentionShape, q_gradient: &mut [f32], k_gradient: &mut [f32], v_gradient: &mut [f32]) = 3 * attention(shape.layout) + 2 * attention(shape.values());
    attention_pattern(q: &[f32], k: &[f32], layout: AttentionLayout, out: &mut [f32]) = attention(layout);
    attention_pattern_backward(q: &[f32], k: &[f32], pattern: &[f32], gradient: &mut [f32], layout: AttentionLayout, q_gradient: &mut [f32], k_gradient: &mut [f32]) = 2 * attention(layout);
    attention_mix(pattern: &[f32], v: &[f32], layout: AttentionLayout, causal: bool, out: &mut [f32]) = attention(layout);
    attention_mix_backward(pattern: &[f32], v: &[f32], gradient: &[f32], layout: AttentionLayout, reach: MixReach, pattern_gradient: Option<&mut [f32]>, v_gradient: Option<&mut [f32]>) = attention(layout) * (u64::from(pattern_gradient.is_some()) + u64::from(v_gradient.is_some()));
    expert_input(x: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]) = product(plan.rows(), shape);
    expert_input_tokens(gradient: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool) = product(plan.rows(), shape);
    expert_input_weight(gradient: &[f32], x: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool) = product(plan.rows(), shape);
    expert_output(rows: &[f32], weight: &[f32], factors: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]) = product(plan.rows(), shape);
    expert_output_backward(gradient: &[f32], rows: &[f32], weight: &[f32], factors: &[f32], plan: &RoutePlan, shape: LinearShape, rows_gradient: &mut [f32], factors_gradient: Option<&mut [f32]>) = product(plan.rows(), shape);
    expert_output_weight(gradient: &[f32], rows: &[f32], factors: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool) = product(plan.rows(), shape);
    expert_linear(rows: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32]) = product(plan.rows(), shape);
    expert_linear_input(gradient: &[f32], weight: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool) = product(plan.rows(), shape);
    expert_linear_weight(gradient: &[f32], rows: &[f32], plan: &RoutePlan, shape: LinearShape, out: &mut [f32], accumulate: bool) = product(plan.rows(), shape);
    expert_combine(rows: &[f32], weights: &[f32], plan: &RoutePlan, out: &mut [f32]) = 0;
    expert_combine_backward(rows: &[f32], weights: &[f32], plan: &RoutePlan, gradient: &[f32], rows_gradient: Option<&mut [f32]>, weights_gradient: Option<&mut [f32]>) = 0;
    balance_loss(scores: &[f32], plan: &RoutePlan) -> f32 = 0;
    balance_loss_backward(scores: &[f32], plan: &RoutePlan, factor: f32, out: &mut [f32]) = 0;
    log_sum_exp(x: &[f32], columns: usize, out: &mut [f32]) = 0;
    scaled_softmax(x: &[f32], log_sums: &[f32], factors: &[f32], targets: Option<&[u32]>, out: &mut [f32]) = 0;
    sum_product(x: &[f32], with: &[f32]) -> f32 = 0;
    adamw(step: &AdamWStep, weight: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use crate::{Mode, Tape};

    #[test]
    fn products_count_operations_and_arguments_count_bytes() {
        let profiler = Profiler::default();
        let run = |device: &dyn Device| {
            let mut tape = Tape::on(device, Mode::Gradient);
            let (x, weight) = (tape.leaf(numbers(&[6, 5], 1)), tape.leaf(numbers(&[4, 5], 2)));
            let y = tape.linear(x, weight).unwrap();
            let loss = tape.sum_product(y, numbers(&[24], 3)).unwrap();
            tape.watch(x);
            tape.backward(loss).unwrap().of(x).cloned()
        };
        assert_eq!(run(&profiler), run(&Cpu));
        let kernels = profiler.kernels();
        let linear = kernels.iter().find(|kernel| kernel.name == "linear").unwrap();
        assert_eq!((linear.calls, linear.operations), (1, 2 * 6 * 5 * 4));
        assert_eq!(linear.bytes, 4 * (6 * 5 + 4 * 5 + 6 * 4));
        assert!(linear.seconds >= linear.least && linear.least > 0.0);
        assert!(kernels.windows(2).all(|pair| pair[0].seconds >= pair[1].seconds));
    }

    #[test]
    fn attention_counts_the_causal_half() {
        let layout = AttentionLayout { batch: 1, positions: 2, heads: 1, key_value_heads: 1, head_dim: 3 };
        assert_eq!(attention(layout), 2 * 3 * 3);
    }
}

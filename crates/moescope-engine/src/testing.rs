//! The one set of checks that every operation passes, on every shape that its tests think of.

use std::sync::OnceLock;

use rand::{RngExt, SeedableRng};
use rayon::ThreadPool;

use crate::{EngineError, Mode, Tape, Tensor, Var};

/// What a test does on a tape, given one variable for each input.
pub(crate) trait Build: Fn(&mut Tape<'_>, &[Var]) -> Result<Var, EngineError> + Sync {}
impl<T: Fn(&mut Tape<'_>, &[Var]) -> Result<Var, EngineError> + Sync> Build for T {}

/// Numbers in `-1..1`, the same for the same seed.
pub(crate) fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let data = (0..shape.iter().product()).map(|_| random.random_range(-1.0f32..1.0)).collect();
    Tensor::new(shape, data).unwrap()
}

/// Numbers in `0.2..1.2`.
pub(crate) fn positive(shape: &[usize], seed: u64) -> Tensor {
    let data = numbers(shape, seed).data().iter().map(|x| 0.7 + 0.5 * x).collect();
    Tensor::new(shape, data).unwrap()
}

/// Distinct experts for each token, `[token, slot]`, leaning to low numbers so that some experts stay empty.
pub(crate) fn choices(tokens: usize, experts: usize, per_token: usize, seed: u64) -> Vec<u32> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut all = Vec::new();
    for _ in 0..tokens {
        let mut row: Vec<u32> = Vec::new();
        while row.len() < per_token {
            let expert = (random.random_range(0.0f64..1.0).powi(2) * experts as f64) as u32;
            if !row.contains(&expert) {
                row.push(expert);
            }
        }
        all.extend(row);
    }
    all
}

/// Values against the reference in `f64`, gradients against its central differences, and the bits of both between modes and
/// numbers of threads.
pub(crate) fn check(inputs: &[Tensor], build: impl Build, reference: impl Fn(&[Vec<f64>]) -> Vec<f64>) {
    let (value, gradients) = outcome(inputs, &build);
    let wide: Vec<Vec<f64>> =
        inputs.iter().map(|input| input.data().iter().map(|&x| f64::from(x)).collect()).collect();
    let wanted = reference(&wide);
    assert_eq!(value.len(), wanted.len(), "number of results");
    for (&found, &wanted) in value.data().iter().zip(&wanted) {
        assert_close(f64::from(found), wanted, 3e-5, "value");
    }
    let read_out = read_out(value.len());
    for (which, gradient) in gradients.iter().enumerate() {
        for entry in 0..inputs[which].len() {
            let wanted = central_difference(&wide, which, entry, &reference, read_out.data());
            let found = gradient.as_ref().map_or(0.0, |gradient| f64::from(gradient.data()[entry]));
            assert_close(found, wanted, 2e-4, &format!("gradient of input {which} entry {entry}"));
        }
    }
    check_bits(inputs, build);
}

/// The same bits on one, two and three threads, and without a backward pass.
pub(crate) fn check_bits(inputs: &[Tensor], build: impl Build) {
    let first = pools()[0].install(|| outcome(inputs, &build));
    for pool in &pools()[1..] {
        assert_same_bits(&first, &pool.install(|| outcome(inputs, &build)));
    }
    let mut tape = Tape::new(Mode::Inference);
    let vars: Vec<Var> = inputs.iter().map(|input| tape.leaf(input.clone())).collect();
    let result = build(&mut tape, &vars).unwrap();
    assert_eq!(bits(tape.value(result)), bits(&first.0), "bits without a backward pass");
}

type Outcome = (Tensor, Vec<Option<Tensor>>);

/// The value, and the gradient of a fixed linear read-out for each input.
pub(crate) fn outcome(inputs: &[Tensor], build: &impl Build) -> Outcome {
    let mut tape = Tape::new(Mode::Gradient);
    let vars: Vec<Var> = inputs.iter().map(|input| tape.leaf(input.clone())).collect();
    vars.iter().for_each(|&var| tape.watch(var));
    let result = build(&mut tape, &vars).unwrap();
    let value = tape.value(result).clone();
    let loss = tape.sum_product(result, read_out(value.len())).unwrap();
    let gradients = tape.backward(loss).unwrap();
    (value, vars.iter().map(|&var| gradients.of(var).cloned()).collect())
}

fn read_out(length: usize) -> Tensor {
    numbers(&[length], 99)
}

fn central_difference(
    inputs: &[Vec<f64>],
    which: usize,
    entry: usize,
    reference: &impl Fn(&[Vec<f64>]) -> Vec<f64>,
    read_out: &[f32],
) -> f64 {
    // Small, so that a kink is hardly ever inside; f64 leaves nine digits of the difference.
    const STEP: f64 = 1e-7;
    let mut moved = inputs.to_vec();
    let mut at = |by: f64| {
        moved[which][entry] = inputs[which][entry] + by;
        reference(&moved).iter().zip(read_out).map(|(value, &weight)| value * f64::from(weight)).sum::<f64>()
    };
    (at(STEP) - at(-STEP)) / (2.0 * STEP)
}

fn assert_close(found: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!(
        (found - wanted).abs() <= tolerance * (1.0 + wanted.abs()),
        "{what}: found {found}, wanted {wanted}"
    );
}

fn assert_same_bits(one: &Outcome, other: &Outcome) {
    assert_eq!(bits(&one.0), bits(&other.0), "bits of values on more threads");
    for (one, other) in one.1.iter().zip(&other.1) {
        assert_eq!(one.as_ref().map(bits), other.as_ref().map(bits), "bits of gradients on more threads");
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.data().iter().map(|x| x.to_bits()).collect()
}

fn pools() -> &'static [ThreadPool; 3] {
    static POOLS: OnceLock<[ThreadPool; 3]> = OnceLock::new();
    POOLS.get_or_init(|| {
        [1, 2, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
    })
}

//! What share of the machine's rate of products the analyses reach that are made of them.
//!
//! `cargo bench -p moescope-analysis --bench products` compares two representations by CKA, fits linear probes and trains dictionaries, on one thread, and holds
//! the operations of their products over processor time against bare products of the `gemm` crate in the same precision, in the same run.

use std::hint::black_box;
use std::ops::ControlFlow;

use cpu_time::ProcessTime;
use moescope_analysis::matrix::Features;
use moescope_analysis::probe::{ProbeOptions, ProbeTask, fitting_evaluations};
use moescope_analysis::similarity::cka;
use moescope_base::Seed;
use moescope_dictionary::{Kind, Place, Planted, PlantedSettings, Settings, train};
use moescope_engine::measure::gemm_rate;
use moescope_engine::{Doubles, double_product};
use rand::RngExt;

const REPETITIONS: usize = 5;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be had");
    pool.install(|| {
        println!("GFLOP/s on one core, best of {REPETITIONS}                reached   gemm   share");
        for (tokens, width) in [(2_048, 256), (4_096, 768)] {
            representations(tokens, width);
        }
        for (tokens, width, classes) in [(8_192, 256, 10), (8_192, 768, 10), (8_192, 768, 64)] {
            fit(tokens, width, classes);
        }
        for (width, features) in [(256, 2_048), (576, 8_192)] {
            [Kind::TopK, Kind::Relu].into_iter().for_each(|kind| dictionary(kind, width, features));
        }
    });
}

/// Unbiased CKA: three products of `[width, tokens]` with `[tokens, width]`, in double precision.
fn representations(tokens: usize, width: usize) {
    let mut rng = Seed(1).rng();
    let mut draw = || (0..tokens * width).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f64>>();
    let (a, b) = (draw(), draw());
    let features = [&a, &b].map(|x| Features::new(width, x).expect("the numbers fill rows"));
    let operations = 6.0 * (tokens * width * width) as f64;
    let reached = best(operations, || {
        black_box(cka(&features[0], &features[1]).expect("both vary"));
    });
    let sides = [&a, &b].map(|x| Doubles::by_column(x, width, tokens));
    let bare = best(operations / 3.0, || {
        black_box(double_product(sides[0], sides[1].turned()));
    });
    tell(&format!("CKA, {tokens} tokens of width {width}"), reached, bare);
}

/// One fit of a linear probe: at each evaluation a product of the weights with all tokens, and one of the errors with them.
fn fit(tokens: usize, width: usize, classes: usize) {
    let mut rng = Seed(1).rng();
    let values: Vec<f64> = (0..tokens * width).map(|_| rng.random_range(-1.0..1.0)).collect();
    let features = Features::new(width, &values).expect("the numbers fill rows");
    let labels: Vec<u32> = (0..tokens)
        .map(|token| {
            let largest = |a: &u32, b: &u32| {
                values[token * width + *a as usize].total_cmp(&values[token * width + *b as usize])
            };
            (0..classes as u32).max_by(largest).expect("there are classes")
        })
        .collect();
    let documents: Vec<u32> = (0..tokens as u32).map(|token| token / 64).collect();
    let task =
        ProbeTask { features: &features, labels: &labels, classes, documents: &documents, types: &labels };
    let options = ProbeOptions { folds: 5, penalty: 1e-3, controls: 1, replicates: 1, seed: Seed(1) };
    let run = || fitting_evaluations(task, options).expect("the task is whole");
    let operations = 4.0 * (run() * tokens * classes * (width + 1)) as f64;
    let reached = best(operations, || {
        black_box(run());
    });
    // The machine's rate in double precision, on a product that reaches it.
    let mut numbers = |count: usize| (0..count).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f64>>();
    let sides = [numbers(1_024 * 1_024), numbers(1_024 * 1_024)];
    let sides = sides.each_ref().map(|x| Doubles::by_column(x, 1_024, 1_024));
    let bare = best(2.0 * 1_024f64.powi(3), || {
        black_box(double_product(sides[0], sides[1].turned()));
    });
    tell(&format!("probe, {tokens} tokens of width {width}, {classes} classes"), reached, bare);
}

/// Steps of an autoencoder: each of its two matrices in a product forward and one for its gradient, and one back to the features. Kinds that
/// visit what they keep alone are counted as if they did all of it.
fn dictionary(kind: Kind, width: usize, features: usize) {
    const BATCH: usize = 1024;
    const STEPS: u64 = 12;
    let world =
        PlantedSettings { features: width, width, target: None, active: 8.0, noise: 0.1, seed: Seed(1) };
    let rows = Planted::new(world).rows(BATCH).expect("the settings are good").0;
    let settings = Settings {
        batch: BATCH,
        mixed: 1,
        ..Settings::new(kind, features, 32, STEPS * BATCH as u64, Seed(1))
    };
    let operations = 10.0 * (STEPS as usize * BATCH * width * features) as f64;
    let reached = best(operations, || {
        let mut source = || Ok(Some(rows.clone()));
        let mut watch = |_: &_| ControlFlow::Continue(());
        train(&mut source, &settings, Place::default(), &mut watch).expect("rows that vary");
    });
    // By the clock on the wall, so that of many the best is the one that nothing disturbed.
    let bare = gemm_rate(BATCH, width, features, 40).best;
    tell(&format!("{} dictionary, {features} features of width {width}", kind.name()), reached, bare);
}

/// The largest rate of some operations, GFLOP/s of processor time.
fn best(operations: f64, run: impl Fn()) -> f64 {
    let once = |_| {
        let start = ProcessTime::now();
        run();
        operations / start.elapsed().as_secs_f64() / 1e9
    };
    (0..REPETITIONS).map(once).fold(0.0, f64::max)
}

fn tell(what: &str, reached: f64, bare: f64) {
    println!("{what:52} {reached:7.1} {bare:6.1} {:6.0} %", 100.0 * reached / bare);
}

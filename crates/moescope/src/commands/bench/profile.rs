//! Where the time of a step goes, kernel by kernel.

use moescope_engine::{KernelProfile, Profiler};
use moescope_model::Description;
use serde::Serialize;

use super::BenchArgs;
use super::laps::{WARM_UP, laps};
use crate::failure::Failure;
use crate::say;

/// What one kernel has of a step.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    kernel: &'static str,
    /// Of the time by the clock of all steps, 0 to 1.
    share: f64,
    calls_per_step: f64,
    milliseconds_per_step: f64,
    /// Of its matrix products; none for a kernel without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    gflops: Option<f64>,
    /// That over what the threads reach together on the model's largest product.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_fraction: Option<f64>,
    /// Bytes of arguments and results over time: what is moved at least.
    gigabytes_per_second: f64,
}

/// Name of what lies between the kernels: making plans, losses, norms of gradients, and the clock itself.
const BETWEEN: &str = "between kernels";

/// Runs steps with a clock around every kernel; `peak` is in GFLOP/s of all threads.
///
/// # Errors
/// As the steps themselves.
pub(super) fn shares(args: &BenchArgs, description: &Description, peak: f64) -> Result<Vec<Share>, Failure> {
    let profiler = Profiler::default();
    let counted = laps(&profiler, args, description, args.reps)?;
    // The profiler has seen the warm-up as well; the laps, from which a step's own time is taken, leave it out.
    let steps = (WARM_UP + args.reps) as f64;
    let step = counted.iter().map(|lap| lap.wall).sum::<f64>() / counted.len() as f64;
    let kernels = profiler.kernels();
    let mut shares: Vec<Share> = kernels.iter().map(|kernel| share(kernel, steps, step, peak)).collect();
    shares.push(between(&shares, step));
    Ok(shares)
}

fn share(kernel: &KernelProfile, steps: f64, step: f64, peak: f64) -> Share {
    let products = kernel.operations > 0;
    let gflops = kernel.operations as f64 / kernel.seconds / 1e9;
    Share {
        kernel: kernel.name,
        share: kernel.seconds / steps / step,
        calls_per_step: kernel.calls as f64 / steps,
        milliseconds_per_step: 1e3 * kernel.seconds / steps,
        gflops: products.then_some(gflops),
        peak_fraction: products.then_some(gflops / peak),
        gigabytes_per_second: kernel.bytes as f64 / kernel.seconds / 1e9,
    }
}

/// What of a step's seconds no kernel took.
fn between(shares: &[Share], step: f64) -> Share {
    let kernels: f64 = shares.iter().map(|share| share.milliseconds_per_step).sum();
    let rest = (1e3 * step - kernels).max(0.0);
    Share {
        kernel: BETWEEN,
        share: rest / (1e3 * step),
        calls_per_step: 0.0,
        milliseconds_per_step: rest,
        gflops: None,
        peak_fraction: None,
        gigabytes_per_second: 0.0,
    }
}

/// A line for each kernel.
pub(super) fn print(shares: &[Share]) {
    say!(
        "{:>6} {:>10} {:>7} {:>9} {:>8} {:>7}  kernel",
        "share",
        "ms / step",
        "calls",
        "GFLOP/s",
        "of peak",
        "GB/s"
    );
    for share in shares {
        let number =
            |value: Option<f64>, digits| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        say!(
            "{:>4.1} % {:>10.2} {:>7.0} {:>9} {:>8} {:>7.1}  {}",
            100.0 * share.share,
            share.milliseconds_per_step,
            share.calls_per_step,
            number(share.gflops, 1),
            share.peak_fraction.map_or("-".into(), |fraction| format!("{:.0} %", 100.0 * fraction)),
            share.gigabytes_per_second,
            share.kernel
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_step_sum_to_one() {
        let kernel = |name, seconds, operations| KernelProfile {
            name,
            calls: 4,
            seconds,
            least: seconds / 4.0,
            operations,
            bytes: 1 << 30,
        };
        let kernels = [kernel("linear", 3.0, 6_000_000_000), kernel("swiglu", 0.5, 0)];
        let mut shares: Vec<Share> = kernels.iter().map(|kernel| share(kernel, 2.0, 2.0, 4.0)).collect();
        shares.push(between(&shares, 2.0));
        assert!((shares.iter().map(|share| share.share).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!((shares[0].gflops, shares[0].peak_fraction), (Some(2.0), Some(0.5)));
        assert_eq!((shares[1].gflops, shares[2].milliseconds_per_step), (None, 250.0));
    }
}

//! Time on a processor, and where it goes.

use std::time::Instant;

use moescope_engine::Profiler;

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

/// Each kernel's share of all kernels, its mean and least time, and the rate of its products, largest share first.
pub(crate) fn print(profiler: &Profiler) {
    let kernels = profiler.kernels();
    let all: f64 = kernels.iter().map(|kernel| kernel.seconds).sum();
    for kernel in kernels {
        let (share, mean) = (100.0 * kernel.seconds / all, 1e6 * kernel.seconds / kernel.calls as f64);
        let rate = kernel.operations as f64 / kernel.seconds / 1e9;
        println!(
            "    {share:>5.1} %  mean {mean:>9.1} us, least {:>9.1} us, {rate:>6.1} GFLOP/s  {}",
            kernel.least * 1e6,
            kernel.name
        );
    }
}

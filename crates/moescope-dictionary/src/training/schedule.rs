//! How rate and sparsity change over the steps.

use super::settings::Settings;

/// Share of the steps over which the learning rate rises, and over which it falls at the end.
const RISE: f64 = 0.05;
const FALL: f64 = 0.2;

/// Learning rate of a step, counted from one: it rises in a straight line, stays, and falls in a straight line.
pub(crate) fn learning_rate(settings: &Settings, step: u64) -> f32 {
    let steps = settings.steps() as f64;
    let rise = (step as f64 / (RISE * steps).max(1.0)).min(1.0);
    let fall = ((steps - step as f64 + 1.0) / (FALL * steps).max(1.0)).min(1.0);
    settings.learning_rate * rise.min(fall) as f32
}

/// How far sparsity has been brought in at a step, from 0 to 1.
pub(crate) fn sparsity(settings: &Settings, step: u64) -> f64 {
    let steps = settings.warm_up * settings.steps() as f64;
    ((step - 1) as f64 / steps.max(1.0)).min(1.0)
}

/// Features kept at a step: from four times `k`, or all, down to `k`.
pub(crate) fn kept(settings: &Settings, step: u64) -> usize {
    let (first, last) = ((4 * settings.k).min(settings.features) as f64, settings.k as f64);
    (first + (last - first) * sparsity(settings, step)).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Kind;
    use moescope_base::Seed;

    #[test]
    fn rate_and_sparsity_by_hand() {
        let settings = Settings {
            batch: 10,
            learning_rate: 1.0,
            ..Settings::new(Kind::TopK, 20, 4, 1000, Seed(1)) // 100 steps
        };
        let rate = |step| learning_rate(&settings, step);
        assert!(
            (rate(1) - 0.2).abs() < 1e-6 && (rate(5) - 1.0).abs() < 1e-6 && (rate(80) - 1.0).abs() < 1e-6
        );
        assert!((rate(91) - 0.5).abs() < 1e-6 && (rate(100) - 0.05).abs() < 1e-6);
        assert_eq!(
            (kept(&settings, 1), kept(&settings, 6), kept(&settings, 11), kept(&settings, 99)),
            (16, 10, 4, 4)
        );
        assert_eq!((sparsity(&settings, 1), sparsity(&settings, 100)), (0.0, 1.0));
    }
}

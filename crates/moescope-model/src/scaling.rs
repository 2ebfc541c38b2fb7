//! Rotary frequencies for sequences longer than those of training.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::description::positive;

/// How the frequencies of the rotary turn are changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scaling {
    /// Not at all.
    #[default]
    None,
    /// All are divided by a factor. Source: Chen et al. 2023 (arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The base grows with the length of the sequence once that is longer than the original, so all positions of one pass turn
    /// more slowly the longer the pass is.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
        /// Length up to which nothing changes.
        original: usize,
    },
    /// Slow pairs are divided by a factor, fast ones stay, and those between are mixed. Source: Peng et al. 2023 (arXiv
    /// 2309.00071).
    Yarn {
        /// The factor.
        factor: f64,
        /// Length of training.
        original: usize,
        /// Turns within that length above which a pair stays.
        beta_fast: f64,
        /// Turns below which a pair is divided.
        beta_slow: f64,
        /// Whether the bounds are rounded outwards to whole pairs.
        truncate: bool,
        /// Multiplies what is turned.
        magnitude: f64,
    },
    /// Long waves are divided by a factor, short ones stay, and those between are mixed. Source: Llama 3.1.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Waves longer than the original length over this are divided.
        low: f64,
        /// Waves shorter than the original length over this stay.
        high: f64,
        /// Length of training.
        original: usize,
    },
    /// Each pair has its own divisor, in short and in long sequences. Source: Ding et al. 2024 (arXiv 2402.13753).
    Long {
        /// Divisors up to the original length, one for each pair.
        short: Vec<f64>,
        /// Divisors beyond.
        long: Vec<f64>,
        /// Length of training.
        original: usize,
        /// Multiplies what is turned, in short sequences.
        short_magnitude: f64,
        /// The same in long ones.
        long_magnitude: f64,
    },
}

impl Scaling {
    /// Whether the frequencies depend on the length of the sequence.
    pub fn depends_on_length(&self) -> bool {
        matches!(self, Scaling::Dynamic { .. } | Scaling::Long { .. })
    }

    /// Frequencies of the pairs of `dimensions` turning coordinates in radians for each position, for a pass of this length, and
    /// what turned values are multiplied with.
    pub(crate) fn frequencies(&self, dimensions: usize, theta: f64, length: usize) -> (Vec<f32>, f32) {
        let pairs = dimensions.div_ceil(2);
        let plain = |theta: f64, pair: usize| theta.powf(-2.0 * pair as f64 / dimensions as f64);
        let all = |of: &dyn Fn(usize) -> f64| (0..pairs).map(|pair| of(pair) as f32).collect();
        match self {
            Scaling::None => (all(&|pair| plain(theta, pair)), 1.0),
            Scaling::Linear { factor } => (all(&|pair| plain(theta, pair) / factor), 1.0),
            Scaling::Dynamic { factor, original } => {
                let longer = length.max(*original) as f64 / *original as f64;
                let exponent = dimensions as f64 / (dimensions as f64 - 2.0);
                let base = theta * (factor * longer - (factor - 1.0)).powf(exponent);
                (all(&|pair| plain(base, pair)), 1.0)
            }
            Scaling::Yarn { factor, original, beta_fast, beta_slow, truncate, magnitude } => {
                let bound = |turns: f64| {
                    dimensions as f64 * (*original as f64 / (turns * TAU)).ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (bound(*beta_fast), bound(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dimensions as f64 - 1.0));
                if low == high {
                    high += 0.001; // As the reference implementation does, so that there is a ramp.
                }
                let frequency = |pair: usize| {
                    let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    plain(theta, pair) * (ramp / factor + (1.0 - ramp))
                };
                (all(&frequency), *magnitude as f32)
            }
            Scaling::Llama3 { factor, low, high, original } => {
                let frequency = |pair: usize| {
                    let plain = plain(theta, pair);
                    let turns = *original as f64 * plain / TAU;
                    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    plain * ((1.0 - smooth) / factor + smooth)
                };
                (all(&frequency), 1.0)
            }
            Scaling::Long { short, long, original, short_magnitude, long_magnitude } => {
                let (divisors, magnitude) = match length > *original {
                    true => (long, long_magnitude),
                    false => (short, short_magnitude),
                };
                (all(&|pair| plain(theta, pair) / divisors[pair]), *magnitude as f32)
            }
        }
    }

    /// Refuses numbers that make no frequencies.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let lengths = |original: &usize| positive("original length of the rotary scaling", *original as f64);
        match self {
            Scaling::None => Ok(()),
            Scaling::Linear { factor } => positive("rotary factor", *factor),
            Scaling::Dynamic { factor, original } => {
                positive("rotary factor", *factor)?;
                lengths(original)
            }
            Scaling::Yarn { factor, original, beta_fast, beta_slow, magnitude, .. } => {
                positive("rotary factor", *factor)?;
                positive("rotary beta_fast", *beta_fast)?;
                positive("rotary beta_slow", *beta_slow)?;
                positive("rotary magnitude", *magnitude)?;
                lengths(original)
            }
            Scaling::Llama3 { factor, low, high, original } => {
                positive("rotary factor", *factor)?;
                positive("difference of the rotary bounds", high - low)?;
                lengths(original)
            }
            Scaling::Long { short, long, original, short_magnitude, long_magnitude } => {
                short.iter().chain(long).try_for_each(|divisor| positive("rotary divisor", *divisor))?;
                positive("rotary magnitude", *short_magnitude)?;
                positive("rotary magnitude", *long_magnitude)?;
                lengths(original)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: (Vec<f32>, f32), wanted: &[f32]) {
        assert_eq!(found.0.len(), wanted.len());
        assert!(found.0.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6 * b), "{found:?} {wanted:?}");
    }

    #[test]
    fn each_kind_by_hand() {
        close(Scaling::None.frequencies(4, 100.0, 9), &[1.0, 0.1]);
        close(Scaling::Linear { factor: 4.0 }.frequencies(4, 100.0, 9), &[0.25, 0.025]);
        let dynamic = Scaling::Dynamic { factor: 2.0, original: 8 };
        close(dynamic.frequencies(4, 100.0, 8), &[1.0, 0.1]);
        // Twice as long: the base grows by (2 * 2 - 1)², so its root by three.
        close(dynamic.frequencies(4, 100.0, 16), &[1.0, 0.1 / 3.0]);
        let llama3 = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 6 };
        // Six positions of the first pair are less than one turn.
        close(llama3.frequencies(4, 100.0, 9), &[0.125, 0.0125]);
        let long = Scaling::Long {
            short: vec![1.0, 2.0],
            long: vec![4.0, 8.0],
            original: 4,
            short_magnitude: 1.0,
            long_magnitude: 1.5,
        };
        close(long.frequencies(4, 100.0, 4), &[1.0, 0.05]);
        assert_eq!(long.frequencies(4, 100.0, 5).1, 1.5);
    }

    #[test]
    fn yarn_leaves_the_fast_and_divides_the_slow() {
        let yarn = Scaling::Yarn {
            factor: 8.0,
            original: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            magnitude: 1.2,
        };
        let (scaled, magnitude) = yarn.frequencies(64, 10_000.0, 9);
        let (plain, _) = Scaling::None.frequencies(64, 10_000.0, 9);
        assert_eq!((scaled[0], magnitude), (plain[0], 1.2));
        assert!((scaled[31] / plain[31] - 0.125).abs() < 1e-6);
        assert!(scaled.iter().zip(&plain).all(|(a, b)| *a <= *b && *a >= b / 8.1));
    }

    #[test]
    fn an_odd_number_of_dimensions_is_rounded_up() {
        close(Scaling::None.frequencies(3, 1000.0, 1), &[1.0, 0.01]);
    }
}

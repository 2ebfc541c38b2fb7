//! Random numbers whose bits do not depend on a library's version.

use moescope_base::Seed;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Standard deviation of a standard normal cut at two standard deviations.
const TRUNCATED_DEVIATION: f64 = 0.879_596_566_170_685;

/// A stream of normal numbers.
///
/// ChaCha8 gives the bits; the turn into normal numbers is written here, because a library may change its own between
/// versions.
pub(crate) struct Normal {
    generator: ChaCha8Rng,
}

impl Normal {
    /// The stream of a seed, from its start.
    pub(crate) fn new(seed: Seed) -> Normal {
        Normal { generator: seed.rng() }
    }

    /// Mean 0, variance 1 (Box and Muller 1958).
    pub(crate) fn standard(&mut self) -> f64 {
        // The first uniform number is in (0, 1], so that its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Mean 0, variance 1, never beyond two standard deviations of the uncut distribution.
    pub(crate) fn truncated(&mut self) -> f64 {
        loop {
            let draw = self.standard();
            if draw.abs() <= 2.0 {
                return draw / TRUNCATED_DEVIATION;
            }
        }
    }

    /// In `[0, 1)`, with 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_distributions_have_variance_one() {
        let mut normal = Normal::new(Seed(3));
        let mut variance = |draw: fn(&mut Normal) -> f64| {
            (0..40_000).map(|_| draw(&mut normal).powi(2)).sum::<f64>() / 40_000.0
        };
        assert!((variance(Normal::standard) - 1.0).abs() < 0.03);
        assert!((variance(Normal::truncated) - 1.0).abs() < 0.03);
    }
}

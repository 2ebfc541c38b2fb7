//! A world whose dictionary is known: sparse features in known directions, with noise.

use moescope_base::Seed;
use moescope_engine::{Mode, Tape, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::draws::{directions, normal};
use crate::{DictionaryError, Rows, SourceError};

/// What a planted world is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlantedSettings {
    /// Features.
    pub features: usize,
    /// Width of the input.
    pub width: usize,
    /// Width of the target, for a transcoder; `None` for rows of one site.
    pub target: Option<usize>,
    /// Active features of a row, on average.
    pub active: f64,
    /// Standard deviation of the noise on each number.
    pub noise: f64,
    /// Source of directions and rows.
    pub seed: Seed,
}

/// Rows that are sums of few features in known directions of length 1: `x = offset + Σ size · direction + noise`. Each feature is active
/// on its own, with one probability for all, and its size is even in `1..2`. A target is the sum of the same sizes in other directions.
#[derive(Clone, Debug)]
pub struct Planted {
    settings: PlantedSettings,
    /// `[feature, width]`.
    input: Tensor,
    /// `[feature, target]`.
    target: Option<Tensor>,
    draws: ChaCha8Rng,
}

impl Planted {
    /// The world of these settings.
    pub fn new(settings: PlantedSettings) -> Planted {
        let PlantedSettings { features, width, target, seed, .. } = settings;
        Planted {
            settings,
            input: directions(features, width, seed.child("input")),
            target: target.map(|width| directions(features, width, seed.child("target"))),
            draws: seed.child("rows").rng(),
        }
    }

    /// The directions that a dictionary should find, `[feature, target]`.
    pub fn directions(&self) -> &Tensor {
        self.target.as_ref().unwrap_or(&self.input)
    }

    /// The next rows, and the sizes of their features, `[row, feature]`.
    ///
    /// # Errors
    /// None with the settings above; the engine's are passed on.
    pub fn rows(&mut self, count: usize) -> Result<(Rows, Tensor), DictionaryError> {
        let (features, chance) =
            (self.settings.features, self.settings.active / self.settings.features as f64);
        let mut sizes = Tensor::zeros([count, features]);
        for size in sizes.data_mut() {
            if self.draws.random_range(0.0..1.0f64) < chance {
                *size = self.draws.random_range(1.0..2.0f32);
            }
        }
        let noise = self.settings.noise;
        let input = noisy(&sizes, &self.input, noise, &mut self.draws)?;
        let target = match &self.target {
            Some(directions) => Some(noisy(&sizes, directions, noise, &mut self.draws)?),
            None => None,
        };
        Ok((Rows { input, target }, sizes))
    }

    /// A stream without end, so many rows at a time.
    pub fn stream(mut self, count: usize) -> impl FnMut() -> Result<Option<Rows>, SourceError> {
        move || Ok(Some(self.rows(count)?.0))
    }
}

/// The sum of sized directions, an offset of one and noise.
fn noisy(
    sizes: &Tensor,
    directions: &Tensor,
    noise: f64,
    draws: &mut ChaCha8Rng,
) -> Result<Tensor, DictionaryError> {
    let written = crate::dictionary::transposed(directions);
    let mut tape = Tape::new(Mode::Inference);
    let (sizes, written) = (tape.frozen(sizes), tape.frozen(&written));
    let sums = tape.linear(sizes, written)?;
    let mut out = tape.value(sums).clone();
    out.data_mut().iter_mut().for_each(|x| *x += 1.0 + (noise * normal(draws)) as f32);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_sums_that_were_planted() {
        let settings = PlantedSettings {
            features: 12,
            width: 5,
            target: Some(3),
            active: 2.0,
            noise: 0.0,
            seed: Seed(4),
        };
        let mut world = Planted::new(settings);
        let (rows, sizes) = world.rows(400).unwrap();
        let active = sizes.data().iter().filter(|size| **size > 0.0).count() as f64 / 400.0;
        assert!((active - 2.0).abs() < 0.3, "{active}");
        for (row, sizes) in rows.wanted().data().chunks(3).zip(sizes.data().chunks(12)) {
            for (column, found) in row.iter().enumerate() {
                let directions = world.directions().data().chunks(3);
                let wanted: f32 = sizes.iter().zip(directions).map(|(size, d)| size * d[column]).sum();
                assert!((found - 1.0 - wanted).abs() < 1e-4);
            }
        }
    }
}

//! Dictionaries learned from activations as they stream.

mod directions;
mod mixing;
mod normalise;
mod parameter;
mod resample;
mod schedule;
mod settings;
mod step;
#[cfg(test)]
mod tests;
mod trainer;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::{ActivationStream, Dictionary, DictionaryError, Place};
use mixing::Mixing;
use normalise::{Normalisation, unfolded};
pub(crate) use resample::direction;
pub use settings::{Kind, Settings};
use trainer::Trainer;

/// What a step of a training saw, on its own rows and before it learned from them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps of the whole training.
    pub steps: u64,
    /// Rows seen, repeats included.
    pub rows: u64,
    /// Share of the variance that was not explained, from 0; above 1 the mean would have been better.
    pub unexplained: f64,
    /// Active features of a row, on average.
    pub active: f64,
    /// Features that no row has activated for as long as the settings say.
    pub dead: usize,
}

/// A dictionary and how it was learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The dictionary, of activations as they are: no normalisation is needed to use it.
    pub dictionary: Dictionary,
    /// Report of the last step.
    pub last: StepReport,
    /// Features that were dead and were set anew.
    pub resampled: u64,
}

/// Learns a dictionary of what streams by.
///
/// The first rows say how large activations are; all are brought to mean zero and variance one, and the saved dictionary is brought back.
/// Directions that features write have the length 1 throughout. Dead features are revived: with `topk` and `batchtopk` they learn to
/// write what is left over (AuxK of Gao et al. 2024); with `relu` and `jumprelu` they are set anew, twice, to what badly explained rows
/// lack (after Bricken et al. 2023).
///
/// `watch` is told of every step and may end the training. A source that ends earlier than `settings.rows` ends the training as well, so let it
/// repeat itself if that is wanted.
///
/// # Errors
/// For impossible settings, rows that do not fit each other or hold no variance, activations that are not finite, a source that fails or
/// gives fewer rows than one batch, and [`DictionaryError::Stopped`].
pub fn train(
    source: &mut dyn ActivationStream,
    settings: &Settings,
    place: Place,
    watch: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Trained, DictionaryError> {
    settings.check()?;
    let mut mixing = Mixing::new(source, settings.batch * settings.mixed, settings.seed.child("order"));
    mixing.fill()?;
    let wanted = settings.batch as u64;
    let too_few = |found| DictionaryError::TooFew { found, wanted };
    let first = mixing.look().filter(|rows| rows.len() as u64 >= wanted);
    let first = first.ok_or_else(|| too_few(mixing.held() as u64))?;
    let transcodes = first.target.is_some();
    let input = Normalisation::of(&first.input, "input")?;
    let target = Normalisation::of(first.wanted(), "target")?;
    let mut trainer = Trainer::new(settings, first.input.columns(), first.wanted().columns(), transcodes)?;
    drop(first);
    let mut last = None;
    while trainer.steps_done() < settings.steps() {
        let Some(rows) = mixing.draw(settings.batch)?.filter(|rows| rows.len() > 1) else { break };
        let x = input.apply(&rows.input);
        let y = rows.target.as_ref().map(|y| target.apply(y));
        let report = trainer.step(x, y)?;
        last = Some(report);
        if watch(&report).is_break() {
            return Err(DictionaryError::Stopped { steps: report.step });
        }
    }
    let last = last.ok_or_else(|| too_few(0))?;
    let (parts, resampled) = trainer.finish();
    Ok(Trained { dictionary: unfolded(parts, &input, &target, place)?, last, resampled })
}

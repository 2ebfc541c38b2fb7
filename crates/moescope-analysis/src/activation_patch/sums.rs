//! From single cases to shares with intervals: sums by document.
//!
//! Shares are ratios of sums, not means of ratios: a case whose two texts hardly differ has a share that can be anything, and it would decide a mean. In a ratio of sums it weighs as
//! little as its difference.
//!
//! A small example: the clean text says `a` with 2 nats more than `b`, the corrupted one with 1 nat less, so that the texts are 3 nats apart. With an activation of the
//! clean text the corrupted one says `a` with 1.5 nats more: it went 2.5 of 3 nats. With the same activation of an unrelated sequence it stays where it was, at 0 of
//! 3. In the other direction the clean text, with what the corrupted one has there, falls to 1.5 nats: 0.5 of 3. The activation suffices for most of the difference and is needed for
//! little of it, so that others carry the same.

use std::collections::BTreeMap;

use super::measure::{Apart, Reading};
use super::{Carried, Direction, Moved, Spot};
use crate::AnalysisError;
use crate::statistics::{self, LEAST_UNITS, Resampling, bootstrap, student};

/// Sums over the cases of one document, for one direction.
///
/// In this order: how far the own vector moves the logit difference, how far a foreign one does, and how far apart the texts are; divergence from the prediction
/// of the text that gives the activation with the own vector, with a foreign one, and without any; and the number of cases.
pub(super) type Total = [f64; 7];

/// Sums by activation, direction and document.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums(BTreeMap<Spot, [BTreeMap<u32, Total>; 2]>);

/// What one case adds.
///
/// Both directions are told towards the text that gives the activation, so that 0 is no effect and the whole difference is all of it, whichever text is run.
pub(super) fn moved(apart: &Apart, direction: Direction, own: &Reading, foreign: &Reading) -> Total {
    let (base, goal, sign) = match direction {
        Direction::Denoise => (&apart.corrupted, &apart.clean, 1.0),
        Direction::Noise => (&apart.clean, &apart.corrupted, -1.0),
    };
    let way = |with: &Reading| sign * (with.difference() - base.difference());
    [way(own), way(foreign), apart.whole(), own.from(goal), foreign.from(goal), base.from(goal), 1.0]
}

impl Sums {
    /// Enters a case under the document of its clean text.
    pub(super) fn add(&mut self, spot: Spot, direction: Direction, document: u32, here: Total) {
        let sums = self.0.entry(spot).or_default()[direction as usize].entry(document).or_default();
        sums.iter_mut().zip(here).for_each(|(sum, here)| *sum += here);
    }

    /// Shares of the activations that at least four documents have, in the order of spots.
    pub(super) fn carried(&self, resampling: Resampling) -> Result<Vec<Carried>, AnalysisError> {
        let enough = self.0.iter().filter(|(_, [denoised, _])| denoised.len() >= LEAST_UNITS);
        let of = |(spot, directions): (&Spot, &[BTreeMap<u32, Total>; 2])| {
            let cases = directions[0].values().map(|total| total[6]).sum::<f64>() as usize;
            let [denoised, noised] = directions
                .each_ref()
                .map(|documents| summarise(&documents.values().copied().collect::<Vec<Total>>(), resampling));
            Ok(Carried { spot: *spot, denoised: denoised?, noised: noised?, cases })
        };
        enough.map(of).collect()
    }
}

/// Shares over documents, and how surely they differ from those of foreign vectors.
///
/// The test asks whether the own vector moves the prediction further than a foreign one does, over documents. It says nothing about the share itself, for which there is the interval: an
/// activation may carry all of the difference and a foreign one half of it, since any vector destroys what stood there.
///
/// # Errors
/// If documents are fewer than two, or a share is not defined.
pub(super) fn summarise(documents: &[Total], resampling: Resampling) -> Result<Moved, AnalysisError> {
    let all: Vec<usize> = (0..documents.len()).collect();
    let total = |drawn: &[usize], which: usize| drawn.iter().map(|d| documents[*d][which]).sum::<f64>();
    let share = |drawn: &[usize], which: usize| total(drawn, which) / total(drawn, 2);
    let gone = |drawn: &[usize], which: usize| 1.0 - total(drawn, which) / total(drawn, 5);
    let beyond: Vec<f64> = documents.iter().map(|[own, foreign, ..]| own - foreign).collect();
    let count = beyond.len() as f64;
    let t = statistics::mean(&beyond) / (statistics::standard_deviation(&beyond) / count.sqrt());
    Ok(Moved {
        share: bootstrap(documents.len(), |drawn| share(drawn, 0), resampling)?,
        null: share(&all, 1),
        p_value: student::two_sided(t, count - 1.0),
        kl: bootstrap(documents.len(), |drawn| gone(drawn, 3), resampling)?,
        kl_null: gone(&all, 4),
    })
}

//! What the passes say of a dictionary: numbers with intervals and nulls.
//!
//! Definitions stand in `moescope_dictionary`, at each measure. Here they meet the bootstrap: a replicate draws units (documents) with
//! return, and every measure is worked out anew from the sums of those that were drawn, the variance about their own mean included.

use moescope_analysis::statistics::{Bootstrap, BootstrapMethod, Resampling, bootstrap};
use moescope_base::Seed;
use moescope_corpus::Tokenizer;
use moescope_dictionary::{
    Absorption, AbsorptionRule, DensityBin, Dictionary, Evaluation, Recovery, absorption, density_histogram,
    gaussian_like, loss_recovered, recovery,
};
use moescope_engine::Tensor;
use rayon::prelude::*;

use super::passes::{Arm, Losses, Passed};
use super::spelling::{LETTERS, first_letters};
use crate::failure::Failure;

/// Replicates behind each interval.
const REPLICATES: usize = 1000;
/// Draws behind the null of absorption.
const DRAWS: u64 = 5;

/// One measure, with what stands beside it.
///
/// - **Unit and range:** `unit` says which; shares reach up to 1.
/// - **Null:** `null`, which `against` explains, and `random`, of directions that were never learned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measure {
    /// What is measured, in words.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// The measure itself; not a number where it is not defined.
    pub(super) value: f64,
    /// Ends of the 95 % interval over units; `None` where there is none.
    pub(super) interval: Option<(f64, f64)>,
    /// Independent units, or features for a share of features.
    pub(super) n: usize,
    /// What it would be if there were nothing to find; `None` where there is no such number.
    pub(super) null: Option<f64>,
    /// The same of random directions, as sparse.
    pub(super) random: Option<f64>,
    /// What the null is.
    pub(super) against: &'static str,
}

/// Absorption of one letter, over the rows that are kept of the text.
///
/// The null is a rate of chance and not a floor: where letters are dealt out at random no feature tells them, so the feature that does best is
/// silent for most tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LetterAbsorption {
    pub(super) letter: char,
    /// The letter's feature, its F1, and the share of tokens that are absorbed.
    pub(super) found: Absorption,
    /// Mean share where the letter is dealt out at random; `None` where no draw could be measured.
    pub(super) null: Option<f64>,
}

/// Everything that is said of a dictionary.
pub(super) struct Measured {
    /// In the order in which they are told.
    pub(super) measures: Vec<Measure>,
    /// How many features are active how often.
    pub(super) bins: Vec<DensityBin>,
    /// Share of rows in which each feature is active, `[feature]`.
    pub(super) densities: Vec<f64>,
    /// Letters with enough tokens, in the order of the alphabet.
    pub(super) letters: Vec<LetterAbsorption>,
    /// How much of another dictionary is found again, and the same of random directions.
    pub(super) again: Option<(Recovery, Recovery)>,
}

/// Works them out, on the threads of the pool that it is called in.
///
/// # Errors
/// If the dictionaries differ in width, or a measure cannot be worked out.
pub(super) fn of(
    dictionary: &Dictionary,
    other: Option<&Dictionary>,
    passed: &Passed,
    tokenizer: &Tokenizer,
    seed: Seed,
) -> Result<Measured, Failure> {
    let resampling = Resampling {
        replicates: REPLICATES,
        level: 0.95,
        method: BootstrapMethod::Percentile,
        seed: seed.child("intervals"),
    };
    let mut measures = of_rows(dictionary, passed, resampling, seed)?;
    if let Some(losses) = &passed.losses {
        measures.extend(of_losses(losses, passed.random.is_some(), resampling)?);
    }
    let densities = passed.evaluation.densities();
    let again = other.map(|other| found_again(other, dictionary, seed)).transpose()?;
    Ok(Measured {
        measures,
        bins: density_histogram(&densities),
        densities,
        letters: by_letter(dictionary, passed, tokenizer, seed)?,
        again,
    })
}

/// An interval of 95 % over units, by drawing units with return, if there are enough of them and the statistic is a number.
fn interval(
    units: &[usize],
    statistic: impl Fn(&[usize]) -> f64 + Sync,
    resampling: Resampling,
) -> Option<Bootstrap> {
    let of = |drawn: &[usize]| statistic(&drawn.iter().map(|place| units[*place]).collect::<Vec<_>>());
    bootstrap(units.len(), of, resampling).ok()
}

/// What is explained and how sparse it is.
fn of_rows(
    dictionary: &Dictionary,
    passed: &Passed,
    resampling: Resampling,
    seed: Seed,
) -> Result<Vec<Measure>, Failure> {
    let evaluation = &passed.evaluation;
    let units = evaluation.units();
    let gaussian = on_gaussian(dictionary, passed, seed)?;
    let explained = |of: &Evaluation| of.explained_variance(&of.units());
    let active = |of: &Evaluation| of.active(&of.units());
    let with = |name, unit, statistic: &(dyn Fn(&[usize]) -> f64 + Sync)| {
        let interval = interval(&units, statistic, resampling).map(|b| (b.low, b.high));
        Measure {
            name,
            unit,
            value: statistic(&units),
            interval,
            n: units.len(),
            null: None,
            random: None,
            against: "",
        }
    };
    let features = dictionary.features();
    Ok(vec![
        Measure {
            null: gaussian.as_ref().map(explained),
            random: passed.random.as_ref().map(explained),
            against: "the same dictionary on Gaussian rows of the same mean and covariance",
            ..with("explained variance", "share", &|units| evaluation.explained_variance(units))
        },
        Measure {
            null: gaussian.as_ref().map(active),
            random: passed.random.as_ref().map(active),
            against: "the same dictionary on Gaussian rows of the same mean and covariance",
            ..with("active features (L0)", "features per row", &|units| evaluation.active(units))
        },
        Measure {
            name: "dead features",
            unit: "share of features",
            value: evaluation.dead_share(),
            interval: None,
            n: features,
            null: Some(0.0),
            random: passed.random.as_ref().map(Evaluation::dead_share),
            against: "every feature is active in some row",
        },
    ])
}

/// The same dictionary on as many Gaussian rows as are kept, where only mean and covariance are as they were; `None` when there are too few rows to draw from.
fn on_gaussian(dictionary: &Dictionary, passed: &Passed, seed: Seed) -> Result<Option<Evaluation>, Failure> {
    let count = passed.sample.len();
    if count < 2 {
        return Ok(None);
    }
    let rows = gaussian_like(&passed.sample, count, seed.child("gaussian"))?;
    let mut evaluation = Evaluation::new(dictionary);
    evaluation.add(dictionary, &rows, &vec![0; count])?;
    Ok(Some(evaluation))
}

/// What the model's loss keeps, from the mean of the site and from zero, and the losses themselves.
fn of_losses(losses: &Losses, random: bool, resampling: Resampling) -> Result<Vec<Measure>, Failure> {
    let units = losses.present();
    let recovered = |by: Arm, from: Arm| {
        move |units: &[usize]| {
            let sum = |arm| losses.sum(arm, units);
            loss_recovered(sum(Arm::Clean), sum(by), sum(from))
        }
    };
    let mean_loss = |arm: Arm| move |units: &[usize]| losses.sum(arm, units) / losses.tokens(units);
    let share = |name, from, against| {
        let statistic = recovered(Arm::Written, from);
        Measure {
            name,
            unit: "share",
            value: statistic(&units),
            interval: interval(&units, statistic, resampling).map(|b| (b.low, b.high)),
            n: units.len(),
            null: Some(0.0),
            random: random.then(|| recovered(Arm::Random, from)(&units)),
            against,
        }
    };
    let nats = |name, arm, null: Option<Arm>, beside: Option<Arm>, against| Measure {
        name,
        unit: "nats per token",
        value: mean_loss(arm)(&units),
        interval: interval(&units, mean_loss(arm), resampling).map(|b| (b.low, b.high)),
        n: units.len(),
        null: null.map(|arm| mean_loss(arm)(&units)),
        random: beside.map(|arm| mean_loss(arm)(&units)),
        against,
    };
    Ok(vec![
        share("loss recovered, from the mean", Arm::Mean, "the mean of the site put in"),
        share("loss recovered, from zero", Arm::Zero, "zero put in"),
        nats("loss of the model", Arm::Clean, None, None, ""),
        nats(
            "loss with what is written",
            Arm::Written,
            Some(Arm::Mean),
            random.then_some(Arm::Random),
            "the mean of the site put in",
        ),
    ])
}

/// Absorption of first letters, as in the task of Chanin et al.
fn by_letter(
    dictionary: &Dictionary,
    passed: &Passed,
    tokenizer: &Tokenizer,
    seed: Seed,
) -> Result<Vec<LetterAbsorption>, Failure> {
    let letters = first_letters(&passed.sample_ids, tokenizer);
    let of = |letter: char| -> Result<Option<LetterAbsorption>, Failure> {
        let with: Vec<bool> = letters.iter().map(|first| *first == Some(letter)).collect();
        let measure = |with: &[bool]| absorption(dictionary, &passed.sample, with, AbsorptionRule::default());
        let Some(found) = measure(&with)? else { return Ok(None) };
        let mut drawn = Vec::new();
        for draw in 0..DRAWS {
            let seed = seed.child("letters").index(u64::from(letter)).index(draw);
            drawn.extend(measure(&dealt(&with, seed))?.map(|found| found.absorbed));
        }
        let null = (!drawn.is_empty()).then(|| drawn.iter().sum::<f64>() / drawn.len() as f64);
        Ok(Some(LetterAbsorption { letter, found, null }))
    };
    let each: Vec<_> = LETTERS.collect::<Vec<char>>().into_par_iter().map(of).collect();
    each.into_iter().filter_map(Result::transpose).collect()
}

/// A property dealt out anew among as many tokens.
fn dealt(with: &[bool], seed: Seed) -> Vec<bool> {
    let mut order: Vec<usize> = (0..with.len()).collect();
    order.sort_by_key(|token| seed.index(*token as u64).0);
    order.into_iter().map(|token| with[token]).collect()
}

/// How much of another dictionary is here as well: what this one has of the directions of the other, and what as many random directions have of
/// them.
fn found_again(
    other: &Dictionary,
    dictionary: &Dictionary,
    seed: Seed,
) -> Result<(Recovery, Recovery), Failure> {
    let directions = dictionary.directions();
    let found = recovery(&other.directions(), &directions)?;
    let random: Tensor = moescope_dictionary::random_directions(
        dictionary.features(),
        dictionary.target_width(),
        seed.child("other directions"),
    );
    Ok((found, recovery(&other.directions(), &random)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_dealt_out_anew_is_as_frequent() {
        let with: Vec<bool> = (0..100).map(|token| token % 4 == 0).collect();
        let [one, other] = [1, 2].map(|seed| dealt(&with, Seed(seed)));
        assert!(one != with && one != other);
        assert_eq!(one.iter().filter(|with| **with).count(), 25);
    }

    #[test]
    fn losses_become_shares_with_intervals() {
        // Clean 1, written 1.5, random 3, mean 3, zero 5 nats a token in every unit: a share of 0.75 from the mean.
        let losses = Losses { units: vec![([10.0, 15.0, 30.0, 30.0, 50.0], 10); 5] };
        let resampling =
            Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        let found = of_losses(&losses, true, resampling).unwrap();
        assert_eq!((found[0].value, found[0].random, found[0].null), (0.75, Some(0.0), Some(0.0)));
        assert_eq!((found[1].value, found[1].interval), (0.875, Some((0.875, 0.875))));
        assert_eq!((found[3].value, found[3].null, found[3].random), (1.5, Some(3.0), Some(3.0)));
    }
}

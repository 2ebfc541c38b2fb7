//! The validity bench: models and texts in which one property is planted, and what every instrument makes of them.
//!
//! An instrument says itself, in its [`promises`](About::promises), where it finds what and where it stays silent. The bench builds
//! the planted worlds, runs the instruments on them over many seeds, and holds them to their word.

mod hand;
mod marks;
mod report;
mod sized;
mod text;
mod worlds;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use moescope_analysis::instrument::{
    About, CASE, Finding, Instrument, LEVEL, Material, Other, Promise, Property,
};
use moescope_analysis::statistics::{Proportion, at_least, holm, proportion};
use moescope_base::{Seed, Subject};
use moescope_model::ModelSubject;
use rayon::prelude::*;

use crate::StudyError;

/// Least share of seeds in which an instrument must find what it promises to find.
pub const REQUIRED: f64 = 0.9;

/// How the bench is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidityOptions {
    /// Worlds of each property in which something must be found, each with weights, text and draws of its own.
    pub seeds: usize,
    /// Worlds of each property where silence is promised; of these, the first are the same.
    pub silent_seeds: usize,
    /// Origin of everything that is drawn.
    pub seed: Seed,
    /// Draws behind each permutation null.
    pub permutations: usize,
    /// Replicates behind each bootstrap interval.
    pub replicates: usize,
}

/// One promise of an instrument, and what became of it.
///
/// - **Unit and range:** `rate` is the share of worlds, from 0 to 1, in which the reading said yes.
/// - **Null:** where nothing is promised to be found, yes is said by chance in [`LEVEL`] of the worlds at most.
/// - **Does not show:** what the instrument does where another thing is planted, or this one more weakly.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The instrument.
    pub about: About,
    /// What it promises.
    pub promise: Promise,
    /// How often the reading said yes, with its exact 95 % interval.
    pub rate: Proportion,
    /// Where silence is promised: the probability of so many readings by chance alone, at a level of [`LEVEL`], with Holm's correction over
    /// all promises of silence. NaN where something must be found.
    pub by_chance: f64,
}

impl ValidityOptions {
    /// Worlds in which a promise is read.
    fn worlds_of(&self, promise: &Promise) -> usize {
        if promise.finds { self.seeds } else { self.silent_seeds }
    }
}

impl Judgement {
    /// Whether the promise is kept. What must be found is found in at least [`REQUIRED`] of the worlds. Where silence is promised,
    /// the count is one that chance explains, among all promises of silence.
    pub fn kept(&self) -> bool {
        match self.promise.finds {
            true => self.rate.share >= REQUIRED,
            false => self.by_chance > LEVEL,
        }
    }

    /// `found` and `silent` where the promise is kept, `missed` and `false alarm` where it is not.
    pub fn verdict(&self) -> &'static str {
        match (self.promise.finds, self.kept()) {
            (true, true) => "found",
            (true, false) => "missed",
            (false, true) => "silent",
            (false, false) => "false alarm",
        }
    }
}

/// What the bench found.
#[derive(Clone, Debug, PartialEq)]
pub struct Validity {
    /// How it was run.
    pub options: ValidityOptions,
    /// Every promise of every instrument, in the order of the case.
    pub judgements: Vec<Judgement>,
    /// Where a table is not what its instrument says of it (rows, results, units, ranges), each with the instrument and the reason.
    pub unlike: BTreeSet<String>,
    /// Tables that the instruments say they give, and that none of them gave in any world.
    pub unseen: Vec<&'static str>,
}

impl Validity {
    /// Promises that were not kept.
    pub fn broken(&self) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(|judgement| !judgement.kept())
    }
}

/// Runs instruments, such as all of [`CASE`](moescope_analysis::instrument::CASE), wherever they have promised something. `tell` hears how
/// many worlds are done, of how many.
///
/// The result does not depend on the number of threads, and what an instrument does not on which others are asked.
///
/// # Errors
/// If no seed is asked for, or an instrument cannot run on a world of which it promises something.
pub fn validity(
    case: &[&'static dyn Instrument],
    options: ValidityOptions,
    tell: &(dyn Fn(usize, usize) + Sync),
) -> Result<Validity, StudyError> {
    let worlds_of = |property: Property| {
        let promises = case.iter().flat_map(|instrument| instrument.about().promises);
        let worlds = promises.filter(|promise| promise.planted == property).map(|p| options.worlds_of(p));
        worlds.max().unwrap_or(0)
    };
    let jobs: Vec<(Property, usize)> = Property::ALL
        .into_iter()
        .flat_map(|property| (0..worlds_of(property)).map(move |s| (property, s)))
        .collect();
    let done = AtomicUsize::new(0);
    let of_job = |(property, index): &(Property, usize)| {
        let seed = options.seed.child(property.name()).index(*index as u64);
        let said = said(case, (*property, *index), seed, &options);
        tell(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        said
    };
    let said: Vec<Said> = jobs.par_iter().map(of_job).collect::<Result<_, _>>()?;
    let mut judgements = Vec::new();
    for (place, instrument) in case.iter().enumerate() {
        let about = instrument.about();
        for (number, promise) in about.promises.iter().enumerate() {
            let yes = said
                .iter()
                .flat_map(|said| &said.answers)
                .filter(|said| **said == (place, number, true))
                .count();
            let worlds = options.worlds_of(promise);
            let rate = proportion(yes, worlds)?;
            let by_chance = if promise.finds { f64::NAN } else { at_least(yes, worlds, LEVEL)? };
            judgements.push(Judgement { about, promise: *promise, rate, by_chance });
        }
    }
    // Many promises are judged at once, those of instruments that are not run among them, so that a verdict does not depend on what else was
    // asked; a test that was not made stays NaN and is not counted.
    let of = |case: &[&'static dyn Instrument]| {
        let promises = case.iter().flat_map(|instrument| instrument.about().promises);
        promises.filter(|promise| !promise.finds).count()
    };
    let others = of(CASE).saturating_sub(of(case));
    let own = judgements.iter().map(|judgement| judgement.by_chance);
    let corrected = holm(&own.chain(std::iter::repeat_n(1.0, others)).collect::<Vec<f64>>());
    judgements.iter_mut().zip(corrected).for_each(|(judgement, p)| judgement.by_chance = p);
    let seen: BTreeSet<&str> = said.iter().flat_map(|said| said.tables.iter().copied()).collect();
    let tables = case.iter().flat_map(|instrument| instrument.about().gives).map(|gives| gives.table);
    let unseen = tables.filter(|table| !seen.contains(table)).collect();
    let unlike = said.into_iter().flat_map(|said| said.unlike).collect();
    Ok(Validity { options, judgements, unlike, unseen })
}

/// What instruments say on one world.
#[derive(Default)]
struct Said {
    /// Place of the instrument, number of its promise, and whether the reading holds.
    answers: Vec<(usize, usize, bool)>,
    /// Tables that they gave.
    tables: BTreeSet<&'static str>,
    /// Where these are not what is said of them.
    unlike: Vec<String>,
}

impl Said {
    /// Holds the tables of an instrument against what it says of them.
    fn hold(&mut self, about: &About, finding: &Finding) {
        let given = about.gives.iter().map(|gives| gives.table);
        self.tables.extend(given.filter(|said| finding.tables.iter().any(|table| table.name() == *said)));
        let unlike = about.unlike(finding);
        self.unlike.extend(unlike.into_iter().map(|why| format!("{}: {why}", about.name)));
    }
}

/// What instruments say on one world of a property.
fn said(
    case: &[&'static dyn Instrument],
    (property, index): (Property, usize),
    seed: Seed,
    options: &ValidityOptions,
) -> Result<Said, StudyError> {
    let read = |promise: &Promise| promise.planted == property && index < options.worlds_of(promise);
    let concerned = |about: &About| about.promises.iter().any(read);
    let instruments = case.iter().enumerate().filter(|(_, instrument)| concerned(&instrument.about()));
    let world = worlds::world(property, seed)?;
    let mut subject = ModelSubject::new(world.model);
    let mut material = Material::new(&mut subject, world.batches, seed.child("instruments"))?;
    (material.permutations, material.replicates) = (options.permutations, options.replicates);
    if let Some(other) = world.other {
        let open = move || Ok(Box::new(ModelSubject::new(other.clone())) as Box<dyn Subject + Send>);
        material.others = vec![Other::named("other", Box::new(open))];
    }
    let mut said = Said::default();
    for (place, instrument) in instruments {
        let about = instrument.about();
        let failed = |source| {
            let (instrument, planted, source) = (about.name, property.name(), Box::new(source));
            StudyError::Bench { instrument, planted, source }
        };
        let finding = instrument.ask(&mut material).map_err(failed)?;
        said.hold(&about, &finding);
        for (number, promise) in about.promises.iter().enumerate() {
            if read(promise) {
                said.answers.push((place, number, promise.reading.holds(&finding).map_err(failed)?));
            }
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests;

//! Passes with the stream of single tokens moved, and what they move at the end.
//!
//! Derivatives are central differences: the stream of a token is moved a little both ways along a direction,
//! and half the difference at the end is divided by the step. This needs passes alone and no derivative of
//! the model, and its error falls with the square of the step. Choices of experts are held meanwhile, for
//! where a choice changes the model jumps, and there is no derivative. Exchanges are run with choices held
//! and free, so that what the jump does can be told apart.
//!
//! One token of each sequence is moved in the same pass, because sequences of a batch do not see one another:
//! a round takes two passes for each direction and two for the exchanges, whatever the number of sequences.
//! Only the moved token is looked at, not those after it.

use std::collections::BTreeSet;

use moescope_base::{
    Edit, HookPoint, Observation, Request, RouteEdit, Seed, Site, Subject, TokenSelection, ValueEdit,
};
use nalgebra::{DMatrix, DVector};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::subspace::Subspace;
use super::transport::{Derivative, Exchange, Moved};
use super::{JacobianOptions, METHOD};
use crate::route_patch::chosen;
use crate::{AnalysisError, Sample, check};

/// Vectors behind the principal directions, at most.
const VECTORS: usize = 192;
/// Step of the central differences, in standard deviations along the direction.
const STEP: f64 = 0.1;

/// One batch as it is.
struct Stage<'a> {
    sample: &'a Sample,
    layer: usize,
    last: usize,
    width: usize,
    seen: Observation,
    routed: Vec<usize>,
    replays: Vec<Edit>,
}

impl<'a> Stage<'a> {
    fn observe(
        subject: &mut dyn Subject,
        sample: &'a Sample,
        layer: usize,
    ) -> Result<Stage<'a>, AnalysisError> {
        let routed = subject.shape().routed_layers();
        let (last, width) = (subject.shape().layers() - 1, subject.shape().d_model);
        let mut record = vec![stream(layer), stream(last)];
        record.extend(routed.iter().map(|layer| HookPoint::block(Site::RouterIndices, *layer)));
        let seen = subject.run(&Request::recording(sample.tokens(), &record))?;
        let replay = |layer: &usize| {
            let choices = chosen(&seen, *layer)?.0;
            Ok(Edit::Route { layer: *layer as u32, change: RouteEdit::Replay { choices } })
        };
        let replays = routed.iter().map(replay).collect::<Result<_, AnalysisError>>()?;
        Ok(Stage { sample, layer, last, width, seen, routed, replays })
    }

    fn vector(&self, row: usize) -> Result<DVector<f64>, AnalysisError> {
        row_of(&self.seen, self.layer, row, self.width)
    }

    /// The experts with the largest weight in the next two routed layers, as far as there are some.
    fn way(&self, row: usize) -> Result<Vec<u32>, AnalysisError> {
        let above = self.routed.iter().filter(|layer| **layer > self.layer).take(2);
        let first = |layer: &usize| {
            let (choices, per_token) = chosen(&self.seen, *layer)?;
            Ok(choices[row * per_token])
        };
        above.map(first).collect()
    }

    /// Moves the stream of one token of each sequence: where their final vectors are then, and whether the token goes elsewhere.
    fn moved(
        &self,
        subject: &mut dyn Subject,
        rows: &[usize],
        moves: &[DVector<f64>],
        held: bool,
    ) -> Result<Vec<(DVector<f64>, bool)>, AnalysisError> {
        let mut vectors = Vec::with_capacity(rows.len() * self.width);
        for (row, by) in rows.iter().zip(moves) {
            vectors.extend((self.vector(*row)? + by).iter().map(|x| *x as f32));
        }
        let tokens = TokenSelection::Rows(rows.iter().map(|row| *row as u32).collect());
        let mut edits = if held { self.replays.clone() } else { Vec::new() };
        edits.push(Edit::Value {
            at: stream(self.layer),
            tokens,
            change: ValueEdit::Patch { rows: vectors },
        });
        let mut record = vec![stream(self.last)];
        record.extend(self.routed.iter().map(|layer| HookPoint::block(Site::RouterIndices, *layer)));
        let seen =
            subject.run(&Request { edits: &edits, ..Request::recording(self.sample.tokens(), &record) })?;
        let one = |row: &usize| {
            let mut flips = false;
            for layer in &self.routed {
                flips |= set(&self.seen, *layer, *row)? != set(&seen, *layer, *row)?;
            }
            Ok((row_of(&seen, self.last, *row, self.width)?, flips))
        };
        rows.iter().map(one).collect()
    }
}

/// Derivatives at tokens of one half of the documents, and exchanges at those of the other.
pub(super) fn moved(
    subject: &mut dyn Subject,
    samples: &[&Sample],
    layer: usize,
    options: JacobianOptions,
) -> Result<Moved, AnalysisError> {
    let trained = half(samples, options.seed.child("documents"))?;
    let stages: Vec<Stage<'_>> =
        samples.iter().map(|sample| Stage::observe(subject, sample, layer)).collect::<Result<_, _>>()?;
    let subspace = subspace(&stages, &trained, options)?;
    check::at_least(METHOD, "directions in which the stream varies", subspace.deviations.len(), 1)?;
    let mut found = Moved { variance: subspace.variance, derivatives: Vec::new(), exchanges: Vec::new() };
    for (index, stage) in stages.iter().enumerate() {
        for round in 0..options.rounds {
            let rows =
                rows(stage.sample, options.seed.child("tokens").index(index as u64).index(round as u64));
            derivatives(subject, stage, &rows, (&subspace, &trained), &mut found)?;
            exchanges(subject, stage, &rows, (&subspace, &trained), &mut found)?;
        }
    }
    Ok(found)
}

/// The documents whose tokens derivatives are taken at.
///
/// The other half has the exchanges. A map is thus never judged by a document that it was made of, nor are
/// the directions.
fn half(samples: &[&Sample], seed: Seed) -> Result<BTreeSet<u32>, AnalysisError> {
    let all: BTreeSet<u32> = samples.iter().flat_map(|sample| sample.documents()).copied().collect();
    check::at_least(METHOD, "documents", all.len(), 4)?;
    let mut all: Vec<u32> = all.into_iter().collect();
    all.shuffle(&mut seed.rng());
    all.truncate(all.len() / 2);
    Ok(all.into_iter().collect())
}

/// Principal directions of the stream at some tokens of the training documents.
fn subspace(
    stages: &[Stage<'_>],
    trained: &BTreeSet<u32>,
    options: JacobianOptions,
) -> Result<Subspace, AnalysisError> {
    let of_stage = |(at, stage): (usize, &Stage<'_>)| {
        let documents = stage.sample.documents();
        (0..documents.len())
            .filter(|row| trained.contains(&documents[*row]))
            .map(|row| (at, row))
            .collect::<Vec<_>>()
    };
    let mut places: Vec<(usize, usize)> = stages.iter().enumerate().flat_map(of_stage).collect();
    places.shuffle(&mut options.seed.child("directions").rng());
    places.truncate(VECTORS);
    let vectors: Vec<DVector<f64>> =
        places.iter().map(|(at, row)| stages[*at].vector(*row)).collect::<Result<_, _>>()?;
    Ok(Subspace::of(&DMatrix::from_columns(&vectors), options.directions))
}

/// One token of each sequence.
fn rows(sample: &Sample, seed: Seed) -> Vec<usize> {
    let positions = sample.tokens().positions();
    let mut rng = seed.rng();
    (0..sample.tokens().batch())
        .map(|sequence| sequence * positions + rng.random_range(0..positions))
        .collect()
}

/// Central differences along every direction, of all sequences in the same passes.
fn derivatives(
    subject: &mut dyn Subject,
    stage: &Stage<'_>,
    rows: &[usize],
    (subspace, trained): (&Subspace, &BTreeSet<u32>),
    found: &mut Moved,
) -> Result<(), AnalysisError> {
    let count = subspace.deviations.len();
    let mut maps = vec![DMatrix::zeros(stage.width, count); rows.len()];
    for (at, deviation) in subspace.deviations.iter().enumerate() {
        let step = STEP * deviation;
        let ends = [step, -step].map(|step| {
            let moves = vec![subspace.directions.column(at) * step; rows.len()];
            stage.moved(subject, rows, &moves, true)
        });
        let [above, below] = ends;
        for ((map, (above, _)), (below, _)) in maps.iter_mut().zip(above?).zip(below?) {
            map.set_column(at, &((above - below) / (2.0 * step)));
        }
    }
    for (row, map) in rows.iter().zip(maps) {
        if trained.contains(&stage.sample.documents()[*row]) {
            found.derivatives.push(Derivative { map, way: stage.way(*row)? });
        }
    }
    Ok(())
}

/// Exchanges the part of every token's vector in the directions for that of the next sequence's token.
///
/// Such a change is as large as those that text itself makes, and lies where the stream varies, so the test
/// asks of a derivative, which is made of small steps, whether it carries large ones.
fn exchanges(
    subject: &mut dyn Subject,
    stage: &Stage<'_>,
    rows: &[usize],
    (subspace, trained): (&Subspace, &BTreeSet<u32>),
    found: &mut Moved,
) -> Result<(), AnalysisError> {
    let mut along = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let other = rows[(at + 1) % rows.len()];
        along.push(subspace.directions.tr_mul(&(stage.vector(other)? - stage.vector(*row)?)));
    }
    let moves: Vec<DVector<f64>> = along.iter().map(|along| &subspace.directions * along).collect();
    let held = stage.moved(subject, rows, &moves, true)?;
    let free = stage.moved(subject, rows, &moves, false)?;
    for (at, row) in rows.iter().enumerate() {
        let document = stage.sample.documents()[*row];
        if trained.contains(&document) {
            continue;
        }
        let before = row_of(&stage.seen, stage.last, *row, stage.width)?;
        found.exchanges.push(Exchange {
            document,
            way: stage.way(*row)?,
            along: along[at].clone(),
            change: moves[at].clone(),
            held: &held[at].0 - &before,
            free: &free[at].0 - &before,
            flips: free[at].1,
        });
    }
    Ok(())
}

fn stream(layer: usize) -> HookPoint {
    HookPoint::block(Site::ResidPost, layer)
}

fn row_of(seen: &Observation, layer: usize, row: usize, width: usize) -> Result<DVector<f64>, AnalysisError> {
    let point = stream(layer);
    let value = seen.values.get(&point).and_then(|value| value.real());
    let value = value.ok_or(AnalysisError::NotRecorded { point })?;
    Ok(DVector::from_iterator(width, value[row * width..(row + 1) * width].iter().map(|x| f64::from(*x))))
}

/// The experts of a token, ascending.
fn set(seen: &Observation, layer: usize, row: usize) -> Result<Vec<u32>, AnalysisError> {
    let (choices, per_token) = chosen(seen, layer)?;
    let mut set = choices[row * per_token..(row + 1) * per_token].to_vec();
    set.sort_unstable();
    Ok(set)
}

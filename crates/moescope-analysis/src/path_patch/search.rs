//! Who sends, who receives, and the passes in their order.
//!
//! The search has two steps. First every expert of the receiving layers is asked how its answer moves, which
//! takes one pass for each direction, whatever the number of experts. Then the prediction is looked at, one
//! pass for each receiver, and of the single experts of a layer only the one that answers most beyond chance
//! is a receiver: a pass for each of them all would cost as many passes as there are experts.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Site, Subject};

use super::edges::{self, Tallies};
use super::passes::{Stage, experts};
use super::{Edge, Expert, METHOD, PathEffect, PathPatch, PathPatchOptions, Receiver};
use crate::statistics::{Resampling, bootstrap};
use crate::turn::Turn;
use crate::{AnalysisError, Sample, check};

/// Layers whose experts may send, at most; evenly spaced where there are more.
const SENDING: usize = 4;

/// Patches paths from the experts whose writes differ most between each sequence and the next of its batch.
///
/// For each batch and sending layer six passes observe it, two each time. For each batch and sender come `2 +
/// turns` passes for the gains, and five and three for each receiver for the effects: the receiver with the
/// sender's change, with a random direction, and with routes held.
///
/// # Errors
/// If the subject has fewer than two routed layers or cannot answer, no batch has two sequences, no write differs, or there are fewer than
/// four documents.
pub fn path_patch(
    subject: &mut dyn Subject,
    samples: &[Sample],
    options: PathPatchOptions,
) -> Result<PathPatch, AnalysisError> {
    let layers = subject.shape().routed_layers();
    check::at_least(METHOD, "routed layers", layers.len(), 2)?;
    check::at_least(METHOD, "random directions", options.turns, 1)?;
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.tokens().batch() > 1).collect();
    check::at_least(METHOD, "batches of several sequences", samples.len(), 1)?;
    let senders = senders(subject, &samples, &layers, options.senders)?;
    check::at_least(METHOD, "experts whose writes differ", senders.len(), 1)?;
    let above = |layer: usize| -> Vec<usize> {
        layers.iter().copied().filter(|other| *other > layer).take(options.receiving).collect()
    };
    let mut tallies = Tallies::new();
    for (layer, of_layer) in &senders {
        let receiving = above(*layer);
        for sample in &samples {
            let stage = Stage::observe(subject, sample, *layer, &receiving)?;
            of_layer.iter().try_for_each(|expert| {
                let sender = Expert { layer: *layer, expert: *expert };
                gains(subject, &stage, sender, &receiving, options, &mut tallies)
            })?;
        }
    }
    let edges = edges::edges(&tallies, options.resampling)?;
    let mut sums = Sums::new();
    for (layer, of_layer) in &senders {
        let receiving = above(*layer);
        for sample in &samples {
            let stage = Stage::observe(subject, sample, *layer, &receiving)?;
            of_layer.iter().try_for_each(|expert| {
                let sender = Expert { layer: *layer, expert: *expert };
                let receivers = receivers(&stage, sender, &receiving, &edges)?;
                effects(subject, &stage, sender, &receivers, options, &mut sums)
            })?;
        }
    }
    let effects = sums.iter().map(|(path, of)| effect(*path, of, options.resampling));
    Ok(PathPatch { effects: effects.collect::<Result<_, _>>()?, edges })
}

/// The experts whose writes differ most, by layer: every sending layer has its share.
///
/// The squared lengths of the differences are added up over all tokens, so that an expert that many tokens
/// choose is preferred to one that differs as much at few of them. The last routed layer sends to none and is
/// left out.
fn senders(
    subject: &mut dyn Subject,
    samples: &[&Sample],
    layers: &[usize],
    wanted: usize,
) -> Result<BTreeMap<usize, Vec<usize>>, AnalysisError> {
    let below = &layers[..layers.len() - 1];
    let count = below.len().min(SENDING);
    let mut found = BTreeMap::new();
    for layer in (0..count).map(|at| below[at * below.len() / count]) {
        let mut squares = vec![0.0; experts(subject, layer)];
        for sample in samples {
            let stage = Stage::observe(subject, sample, layer, &[])?;
            for (expert, square) in squares.iter_mut().enumerate() {
                *square +=
                    stage.difference(expert, false)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            }
        }
        let mut order: Vec<usize> = (0..squares.len()).filter(|expert| squares[*expert] > 0.0).collect();
        order.sort_by(|a, b| squares[*b].total_cmp(&squares[*a]));
        order.truncate((wanted / count).max(1));
        order.sort_unstable();
        found.insert(layer, order);
    }
    found.retain(|_, experts: &mut Vec<usize>| !experts.is_empty());
    Ok(found)
}

/// Tallies what one sender does to every expert above, in its direction and in random ones.
///
/// The change is that of the stream after the sender's layer, with routes free. All experts of all receiving
/// layers are read in the same passes.
fn gains(
    subject: &mut dyn Subject,
    stage: &Stage<'_>,
    sender: Expert,
    receiving: &[usize],
    options: PathPatchOptions,
    tallies: &mut Tallies,
) -> Result<(), AnalysisError> {
    let change = stage.change(subject, sender.expert, false)?;
    let width = subject.shape().d_model;
    let sent: Vec<f64> =
        change.chunks_exact(width).map(|row| row.iter().map(|x| f64::from(*x).powi(2)).sum()).collect();
    for draw in 0..=options.turns {
        let reached = stage.reach(subject, &turned(&change, width, draw, options))?;
        for layer in receiving {
            for expert in 0..experts(subject, *layer) {
                let answered = stage.answered(&reached, *layer, expert)?;
                let edge = (sender, Expert { layer: *layer, expert });
                edges::add(tallies, edge, draw, &answered, &sent, stage.sample.documents());
            }
        }
    }
    Ok(())
}

/// The change in its own direction for draw 0, in a random one for each other; one turn is the same for all senders and batches.
fn turned(change: &[f32], width: usize, draw: usize, options: PathPatchOptions) -> Vec<f32> {
    match draw {
        0 => change.to_vec(),
        draw => Turn::new(width, options.seed.index(draw as u64)).of_rows(change),
    }
}

/// The receivers of a sender: of each layer the heads, the experts, the router where it reads, and the expert that answers most beyond chance.
fn receivers(
    stage: &Stage<'_>,
    sender: Expert,
    receiving: &[usize],
    edges: &[Edge],
) -> Result<Vec<(usize, Receiver)>, AnalysisError> {
    let mut found = Vec::new();
    for layer in receiving {
        found.extend([(*layer, Receiver::Experts), (*layer, Receiver::Heads)]);
        if stage.scores(*layer)? {
            found.push((*layer, Receiver::Router));
        }
        let own = edges.iter().filter(|edge| edge.sender == sender && edge.receiver.layer == *layer);
        let beyond =
            |edge: &&Edge| if edge.null > 0.0 { edge.gain.estimate / edge.null } else { edge.gain.estimate };
        let most = own.max_by(|a, b| beyond(a).total_cmp(&beyond(b)));
        found.extend(most.map(|edge| (*layer, Receiver::Expert(edge.receiver.expert))));
    }
    Ok(found)
}

/// Sender, receiving layer, receiver, and whether routes are held.
type Path = (Expert, usize, Receiver, bool);
/// Of each document: divergence, change of the loss, tokens with other routes, divergence in a random direction, tokens.
type Sums = BTreeMap<Path, BTreeMap<u32, [f64; 5]>>;

/// Adds what one sender does through each receiver, with routes free and held.
///
/// The random direction is the first of those that the gains are held against, so the null of an effect is a
/// single draw, averaged over all tokens; it has no interval, and tells the size of what any change of this
/// length does.
fn effects(
    subject: &mut dyn Subject,
    stage: &Stage<'_>,
    sender: Expert,
    receivers: &[(usize, Receiver)],
    options: PathPatchOptions,
    sums: &mut Sums,
) -> Result<(), AnalysisError> {
    let width = subject.shape().d_model;
    for held in [false, true] {
        let change = stage.change(subject, sender.expert, held)?;
        let reached = stage.reach(subject, &change)?;
        let random = match held {
            true => None,
            false => Some(stage.reach(subject, &turned(&change, width, 1, options))?),
        };
        for receiver in receivers {
            let of_path = sums.entry((sender, receiver.0, receiver.1, held)).or_default();
            for (document, [kl, loss, other]) in stage.effect(subject, &reached, *receiver, held)? {
                let sums = of_path.entry(document).or_default();
                let here = [kl, loss, other, 0.0, 1.0];
                sums.iter_mut().zip(here).for_each(|(sum, here)| *sum += here);
            }
            let Some(random) = &random else { continue };
            for (document, [kl, ..]) in stage.effect(subject, random, *receiver, held)? {
                of_path.entry(document).or_default()[3] += kl;
            }
        }
    }
    Ok(())
}

fn effect(
    (sender, layer, receiver, held): Path,
    documents: &BTreeMap<u32, [f64; 5]>,
    resampling: Resampling,
) -> Result<PathEffect, AnalysisError> {
    let documents: Vec<[f64; 5]> = documents.values().copied().collect();
    check::documents(METHOD, documents.len())?;
    let mean = |drawn: &[usize], which: usize| {
        let total = |which: usize| drawn.iter().map(|d| documents[*d][which]).sum::<f64>();
        total(which) / total(4)
    };
    let all: Vec<usize> = (0..documents.len()).collect();
    let over = |which: usize| bootstrap(documents.len(), |drawn| mean(drawn, which), resampling);
    Ok(PathEffect {
        sender,
        layer,
        receiver,
        held,
        kl: over(0)?,
        kl_null: if held { f64::NAN } else { mean(&all, 3) },
        loss: over(1)?,
        other_routes: mean(&all, 2),
    })
}

/// Values that are kept while a layer's experts send: in one pass at most.
pub fn looked_at(subject: &moescope_base::SubjectShape) -> Vec<HookPoint> {
    let layers = subject.routed_layers();
    let Some((first, above)) = layers.split_first() else { return Vec::new() };
    let above = &above[..above.len().min(2)];
    let inputs = [Site::ResidPre, Site::ResidMid, Site::AttnIn, Site::MlpIn, Site::RouterIn];
    let mut points = vec![HookPoint::block(Site::RoutedOut, *first)];
    points.extend(above.iter().flat_map(|layer| inputs.map(|site| HookPoint::block(site, *layer))));
    let single = subject.hook_points().into_iter().filter(|point| match point.site() {
        Site::ExpertOutWeighted => point.layer() == Some(*first),
        Site::ExpertOut => above.iter().any(|layer| point.layer() == Some(*layer)),
        _ => false,
    });
    points.extend(single);
    points
}

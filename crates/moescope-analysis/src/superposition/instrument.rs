//! The instrument `superposition`.

use moescope_base::{FeedForwardShape, HookPoint, Request, Site};
use rand::seq::SliceRandom;

use super::place::{Place, Vectors};
use super::tables::{Row, figures, table};
use super::{EXPERTS, LAYERS, METHOD, TOKENS};
use crate::depth::spread_over;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::matrix::Features;
use crate::{AnalysisError, check};

/// The instrument `superposition`.
pub struct Superposition;

const CROWDED: Reading = Reading {
    says: "features of the stream share dimensions more than random directions do",
    table: "superposition",
    rows: &[("place", "stream")],
    value: "interference",
    rule: Rule::Above(1.0),
};
const HELD: Reading = Reading {
    says: "the stream holds features",
    table: "superposition",
    rows: &[("place", "stream")],
    value: "strength",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::SuperposedTokens, CROWDED),
    Promise::is_silent(Property::OrthogonalTokens, CROWDED),
    Promise::finds(Property::OrthogonalTokens, HELD),
];

impl Instrument for Superposition {
    fn about(&self) -> About {
        About {
            name: "superposition",
            group: Group::Representation,
            question: "How many features do stream and experts hold for each dimension, and how much do these interfere?",
            null: "random directions of the same lengths; that there is a feature: labels moved along each document; the numbers of every matrix in another order",
            does_not_show: "features that are not asked for, nor that the model reads those that are, nor training, unless there are more of them than with the weights in another order",
            source: "interference and dimensionality, Elhage et al. 2022; of single experts, arXiv 2510.23671, here with the noise taken out",
            passes: "one or two for each batch of an excerpt, and one for each batch of an excerpt and each of at most 6 layers; all of it twice",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let rows = all_rows(material)?;
        check::at_least(METHOD, "layers with four features that stand in eight documents", rows.len(), 1)?;
        let scrambled = material.scrambled(METHOD, all_rows)?.unwrap_or_default();
        let table = table(&rows, &scrambled)?;
        let figures = figures(&rows, &scrambled, &table);
        Ok(Finding { tables: vec![table], figures })
    }
}

/// What is told of the stream and the neurons of each layer that is looked at.
fn all_rows(material: &mut Material<'_>) -> Result<Vec<Row>, AnalysisError> {
    let stream = material.residual_stream(TOKENS)?;
    // Models put very long vectors on the first token of a window, whatever it is.
    let later: Vec<usize> = (0..stream.ids.len()).filter(|token| stream.positions[*token] > 0).collect();
    let pick = |of: &[u32]| later.iter().map(|token| of[*token]).collect::<Vec<u32>>();
    let mut rows = Vec::new();
    for layer in spread_over(material.subject.shape().layers(), LAYERS) {
        let (ids, documents) = (pick(&stream.ids), pick(&stream.documents));
        let vectors = Vectors { values: stream.layers[layer].select(&later), ids, documents };
        rows.extend(row(material, layer, "stream", &[vectors])?);
        let (place, inside) = inside(material, layer)?;
        rows.extend(row(material, layer, place, &inside)?);
    }
    Ok(rows)
}

/// What is told of some places of a layer together; none where none of them has features enough.
fn row(
    material: &Material<'_>,
    layer: usize,
    name: &'static str,
    places: &[Vectors],
) -> Result<Option<Row>, AnalysisError> {
    // The name of an expert decides nothing.
    let permutations = material.permutations_for(METHOD, LAYERS);
    let place = |vectors: &Vectors| {
        let constant =
            (0..vectors.values.tokens()).all(|token| vectors.values.row(token) == vectors.values.row(0));
        let seed = material.seed.child("parts of superposition");
        if constant { None } else { Place::new(vectors, permutations, seed) }
    };
    let places: Vec<Place> = places.iter().filter_map(place).collect();
    let resampling = material.resampling(METHOD);
    (!places.is_empty()).then(|| Row::new(layer, name, &places, resampling)).transpose()
}

/// The neurons of a dense layer, or of the experts that most tokens reach, on the tokens that reach them.
fn inside(material: &mut Material<'_>, layer: usize) -> Result<(&'static str, Vec<Vectors>), AnalysisError> {
    let count: usize = material.batches.iter().map(|(tokens, _)| tokens.len()).sum();
    let (name, mut wanted): (_, Vec<(HookPoint, Vec<u32>)>) =
        match material.subject.shape().feed_forward[layer] {
            FeedForwardShape::Dense { .. } => {
                let all = (0..count as u32).collect();
                ("dense neurons", vec![(HookPoint::block(Site::MlpPost, layer), all)])
            }
            FeedForwardShape::Routed { .. } => ("experts", busiest(material, layer)?),
        };
    let seed = material.seed.child("tokens of superposition").index(layer as u64);
    for (_, tokens) in &mut wanted {
        tokens.shuffle(&mut seed.rng());
        tokens.truncate(TOKENS);
        tokens.sort_unstable();
    }
    let points: Vec<HookPoint> = wanted.iter().map(|(point, _)| *point).collect();
    let mut found = vec![(0, Vec::new(), Vec::new(), Vec::new()); wanted.len()]; // width, values, ids, documents
    let mut before = 0;
    for (tokens, table) in &material.batches {
        let seen = material.subject.run(&Request::recording(tokens, &points))?;
        for ((point, wanted), (width, values, ids, documents)) in wanted.iter().zip(&mut found) {
            let value = seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
            *width = value.columns();
            let all: Vec<u32> = (0..tokens.len() as u32).collect();
            let rows = value.rows().unwrap_or(&all);
            let numbers = value.real().unwrap_or_default().chunks_exact(value.columns().max(1));
            for (row, numbers) in rows.iter().zip(numbers) {
                if table.positions[*row as usize] > 0 && wanted.binary_search(&(before + row)).is_ok() {
                    values.extend_from_slice(numbers);
                    ids.push(table.ids[*row as usize]);
                    documents.push(table.documents[*row as usize]);
                }
            }
        }
        before += tokens.len() as u32;
    }
    let some = found.into_iter().filter(|found| !found.2.is_empty());
    let vectors = |(width, values, ids, documents): (usize, Vec<f32>, Vec<u32>, Vec<u32>)| {
        Ok(Vectors { values: Features::from_single(width, &values)?, ids, documents })
    };
    Ok((name, some.map(vectors).collect::<Result<_, AnalysisError>>()?))
}

/// The experts that most tokens choose, of equals the first, with these tokens.
fn busiest(material: &mut Material<'_>, layer: usize) -> Result<Vec<(HookPoint, Vec<u32>)>, AnalysisError> {
    let trace = material.routes()?;
    let routing = trace.layers().iter().find(|routing| routing.layer == layer);
    let routing = routing.expect("a routed layer has routes");
    let mut tokens = vec![Vec::new(); routing.experts];
    for token in 0..trace.tokens().len() {
        routing.chosen(token).iter().for_each(|expert| tokens[*expert as usize].push(token as u32));
    }
    let mut order: Vec<usize> = (0..routing.experts).collect();
    order.sort_by_key(|expert| (std::cmp::Reverse(tokens[*expert].len()), *expert));
    order.truncate(EXPERTS);
    let of = |expert: usize| {
        (HookPoint::expert(Site::ExpertPost, layer, expert), std::mem::take(&mut tokens[expert]))
    };
    Ok(order.into_iter().map(of).collect())
}

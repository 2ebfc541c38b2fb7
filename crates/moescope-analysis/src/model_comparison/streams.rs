//! The instrument `model-similarity`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{of_other, wanted};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, ResidualStream, Rule, stream_of,
};
use crate::similarity::{Similarity, SimilarityOptions, similarity};

/// Its name in messages and seeds.
const METHOD: &str = "similarity of models";
/// Tokens that are compared.
const TOKENS: usize = 320;
/// Layers of each model that are compared, at most, evenly spaced.
const LAYERS: usize = 8;
/// Shuffles behind each null, at most.
const SHUFFLES: usize = 39;

/// The instrument `model-similarity`.
///
/// Unbiased linear CKA of the residual streams after each block of one model and each of another, on the same tokens; see
/// [`Similarity`]. Neither the names of experts nor those of neurons nor a rotation of the stream change it.
pub struct ModelSimilarity;

/// Two streams that differ by a rotation and a scale at most.
const EQUAL: Reading = Reading {
    says: "two models have the same stream after block 1",
    table: "model_similarity",
    rows: &[("layer", "1"), ("other_layer", "1")],
    value: "cka",
    rule: Rule::MoreThan(0.99),
};

/// Names of experts must not be seen, other weights must.
const PROMISES: &[Promise] =
    &[Promise::finds(Property::PermutedTwin, EQUAL), Promise::is_silent(Property::Strangers, EQUAL)];

impl Instrument for ModelSimilarity {
    fn about(&self) -> About {
        About {
            name: "model-similarity",
            group: Group::Representation,
            question: "How alike are the streams of two models, each layer with each (`--against`)?",
            null: "the tokens of the other model shuffled",
            does_not_show: "that the models compute alike: a few directions of large variance may decide the number",
            source: "linear CKA, Kornblith et al. 2019, unbiased (Song et al. 2012)",
            passes: "one for each batch, and one of each other model",
            routed: false,
            gives: super::gives::MODEL_SIMILARITY,
            promises: PROMISES,
        }
    }

    fn against(&self) -> bool {
        true
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        wanted(material, METHOD)?;
        let own = material.residual_stream(TOKENS)?;
        let permutations = material.permutations.min(SHUFFLES);
        let mut found = Vec::new();
        for number in 0..material.others.len() {
            let (batches, seed) = (&material.batches, material.seed);
            let theirs = of_other(material, number, |other| stream_of(other, batches, seed, TOKENS))?;
            let seed = seed.child(METHOD).index(number as u64);
            let pairs = compare(&own, &theirs, SimilarityOptions { permutations, seed })?;
            let name = material.others[number].name.clone();
            found.extend(pairs.into_iter().map(|pair| (name.clone(), pair)));
        }
        let mut tables = vec![table(&found)?];
        let figure = match material.others.len() {
            1 => Figure {
                id: "model_similarity".into(),
                title: finding(&found),
                caption: "Unbiased linear CKA of the residual streams after each block of the two models; 1 for streams that differ by a rotation \
                          and a scale, about 0 for unrelated ones."
                    .into(),
                table: "model_similarity".into(),
                kind: FigureKind::Heatmap {
                    x: "other_layer".into(),
                    y: "layer".into(),
                    value: "cka".into(),
                    center: None,
                },
            },
            // Several models in one matrix of colours would lie over each other.
            _ => {
                let last = after_last_blocks(&found);
                tables.push(table_named("model_similarity_last", "How alike streams end", &last)?);
                Figure {
                    id: "model_similarity_last".into(),
                    title: finding(&found),
                    caption: "Unbiased linear CKA of the residual streams after the last blocks of this model and each other; 1 for streams that \
                              differ by a rotation and a scale, about 0 for unrelated ones."
                        .into(),
                    table: "model_similarity_last".into(),
                    kind: FigureKind::Forest { label: "other".into(), estimate: "cka".into(), reference: None },
                }
            }
        };
        Ok(Finding { tables, figures: vec![figure] })
    }
}

/// A layer of each model.
type Pair = (usize, usize, Similarity);

/// Every shown layer of one model with every one of the other.
fn compare(
    own: &ResidualStream,
    theirs: &ResidualStream,
    options: SimilarityOptions,
) -> Result<Vec<Pair>, AnalysisError> {
    let mut found = Vec::new();
    for first in spaced(own.layers.len()) {
        for second in spaced(theirs.layers.len()) {
            let seed = options.seed.index(first as u64).index(second as u64);
            let options = SimilarityOptions { seed, ..options };
            let pair = similarity(&own.layers[first], &theirs.layers[second], &own.documents, options)?;
            found.push((first, second, pair));
        }
    }
    Ok(found)
}

/// At most [`LAYERS`] of the layers, the last among them.
fn spaced(layers: usize) -> Vec<usize> {
    let count = layers.min(LAYERS);
    (1..=count).map(|at| at * layers / count - 1).collect()
}

/// One row for each other model and pair of layers.
fn table(found: &[(String, Pair)]) -> Result<Table, AnalysisError> {
    table_named("model_similarity", "How alike the streams of two models are", found)
}

/// Rows of other models and pairs of layers, under this name.
fn table_named(name: &str, title: &str, found: &[(String, Pair)]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&Similarity) -> f64| found.iter().map(|(_, pair)| pick(&pair.2)).collect::<Vec<f64>>();
    let layer = |pick: fn(&Pair) -> usize| found.iter().map(|(_, pair)| pick(pair) as i64).collect();
    let [low, high] =
        Column::interval("cka", "", "95 %, jackknife over documents", of(|s| s.low), of(|s| s.high));
    let columns = vec![
        Column::key("other", "model that is compared", found.iter().map(|row| row.0.clone()).collect()),
        Column::integer_key("layer", "", "block", layer(|pair| pair.0)),
        Column::integer_key("other_layer", "", "block of the other model", layer(|pair| pair.1)),
        Column::estimate("cka", "", "unbiased linear CKA", of(|s| s.cka)),
        low,
        high,
        Column::observations("cka", "documents", found.iter().map(|row| row.1.2.documents as i64).collect()),
        Column::null("cka", "", "tokens of the other model shuffled", of(|s| s.shuffled.null_mean)),
        Column::p_value("cka", "at least as large with tokens shuffled", of(|s| s.shuffled.p_value)),
    ];
    let method = "Residual streams after at most eight blocks of each model, at most 320 tokens drawn at random. Does not show that models compute \
                  alike.";
    Ok(Table::new(name, title, method, columns)?)
}

/// Of each other model the pair of the last layers, in the order of the models.
fn after_last_blocks(found: &[(String, Pair)]) -> Vec<(String, Pair)> {
    let mut last: Vec<(String, Pair)> = Vec::new();
    for (name, pair) in found {
        match last.last_mut().filter(|entry| entry.0 == *name) {
            Some(entry) if (pair.0, pair.1) >= (entry.1.0, entry.1.1) => entry.1 = *pair,
            Some(_) => {}
            None => last.push((name.clone(), *pair)),
        }
    }
    last
}

/// Likeness after the last blocks, beside shuffled tokens; of several models the least and the most alike.
fn finding(found: &[(String, Pair)]) -> String {
    let mut last = after_last_blocks(found);
    last.sort_by(|a, b| a.1.2.cka.total_cmp(&b.1.2.cka));
    match last.as_slice() {
        [] => String::new(),
        [(_, (.., only))] => format!(
            "After their last blocks the streams of the two models have a CKA of {:.2}, with tokens shuffled of {:.2}",
            only.cka, only.shuffled.null_mean
        ),
        [(least, (.., low)), .., (most, (.., high))] => format!(
            "After their last blocks the streams of this model and of {} others have a CKA of {:.2} ({least}) to {:.2} ({most})",
            last.len(),
            low.cka,
            high.cka
        ),
    }
}

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
            passes: "one for each batch of an excerpt, and one of each other model",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Features, normal, random_rotation};
    use moescope_base::Seed;
    use nalgebra::DMatrix;
    use rand::seq::SliceRandom;

    const OPTIONS: SimilarityOptions = SimilarityOptions { permutations: 39, seed: Seed(1) };

    /// Sixteen tokens with the numbers 1 and −1 in turns of this length.
    fn signs(period: usize) -> Features {
        let one = |token: usize| if (token / period).is_multiple_of(2) { 1.0 } else { -1.0 };
        Features::new(2, &(0..16).flat_map(|token| [one(token), 0.0]).collect::<Vec<f64>>()).unwrap()
    }

    fn noise(tokens: usize, width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    /// The features with as much noise beside them.
    fn blurred(features: &Features, seed: u64) -> Features {
        let noise = noise(features.tokens(), features.width(), seed);
        let both = |token: usize| features.row(token).iter().zip(noise.row(token)).map(|(x, n)| x + n);
        Features::new(features.width(), &(0..features.tokens()).flat_map(both).collect::<Vec<f64>>()).unwrap()
    }

    /// Documents of four tokens.
    fn stream(layers: Vec<Features>) -> ResidualStream {
        let documents = (0..layers[0].tokens() as u32).map(|token| token / 4).collect();
        ResidualStream { layers, documents, ..ResidualStream::default() }
    }

    fn run(own: Vec<Features>, theirs: Vec<Features>) -> Vec<Pair> {
        compare(&stream(own), &stream(theirs), OPTIONS).unwrap()
    }

    #[test]
    fn two_layers_against_one_by_hand() {
        // Turns of one token and of two agree as often as not. Off the diagonal tr(K̃L̃) = 0 − 16 and every row sums to −1, so that
        // HSIC₁ · 16 · 13 is −16 + 256 / 210 − 2 / 14 · 16 of the two and 240 + 256 / 210 − 2 / 14 · 16 of each with itself: −1 / 14.
        let found = run(vec![signs(1), signs(2)], vec![signs(2)]);
        let told: Vec<(usize, usize, f64)> = found.iter().map(|pair| (pair.0, pair.1, pair.2.cka)).collect();
        assert_eq!((told[0].0, told[0].1, told[1].0, told[1].1, told.len()), (0, 0, 1, 0, 2));
        assert!((told[0].2 + 1.0 / 14.0).abs() < 1e-12 && (told[1].2 - 1.0).abs() < 1e-12, "{told:?}");
        assert!(found.iter().all(|pair| (pair.2.tokens, pair.2.documents) == (16, 4)));
        let named: Vec<(String, Pair)> = found.iter().map(|pair| ("twin".into(), *pair)).collect();
        let table = table(&named).unwrap();
        let number = |column: &str, row: usize| table.column(column).unwrap().data.number(row).unwrap();
        assert_eq!((number("layer", 1), number("other_layer", 1)), (1.0, 0.0));
        assert!((number("cka", 0) + 1.0 / 14.0).abs() < 1e-12);
        assert!(finding(&named).contains("have a CKA of 1.00"), "the last blocks alone: {}", finding(&named));
    }

    #[test]
    fn a_rotated_scaled_and_shifted_stream_of_either_model_is_as_alike() {
        let (own, theirs) = (noise(40, 5, 1), blurred(&noise(40, 5, 1), 2));
        let turned = |features: &Features, seed: u64| {
            let turned = features.rotate(&(3.0 * random_rotation(5, Seed(seed)))).unwrap();
            let shift = |token: usize| turned.row(token).iter().map(|x| x + 7.0);
            Features::new(5, &(0..40).flat_map(shift).collect::<Vec<f64>>()).unwrap()
        };
        let plain = run(vec![own.clone()], vec![theirs.clone()])[0].2;
        assert!(plain.cka > 0.3 && plain.cka < 0.9, "{plain:?}");
        let others = [
            run(vec![turned(&own, 3)], vec![theirs.clone()]),
            run(vec![own.clone()], vec![turned(&theirs, 4)]),
            run(vec![turned(&own, 3)], vec![turned(&theirs, 4)]),
        ];
        for other in others {
            let other = other[0].2;
            assert!((other.cka - plain.cka).abs() < 1e-9 && (other.low - plain.low).abs() < 1e-9);
            assert!((other.shuffled.null_mean - plain.shuffled.null_mean).abs() < 1e-9, "{other:?}");
        }
        // A map that is no rotation is another stream.
        let stretched = DMatrix::from_fn(5, 5, |row, column| f64::from(u8::from(row == 0 && column == 0)));
        let flat = run(vec![own.rotate(&stretched).unwrap()], vec![theirs])[0].2;
        assert!((flat.cka - plain.cka).abs() > 0.1, "{flat:?}");
    }

    #[test]
    fn a_planted_likeness_is_found_and_shuffled_tokens_are_near_nothing() {
        let own = noise(160, 6, 5);
        let theirs = blurred(&own, 6);
        let found = run(vec![own.clone()], vec![theirs.clone()])[0].2;
        assert!(found.low > 0.3 && found.shuffled.p_value == 1.0 / 40.0, "{found:?}");
        assert!(found.shuffled.null_mean.abs() < 0.02, "{found:?}");
        let mut order: Vec<usize> = (0..160).collect();
        order.shuffle(&mut Seed(7).rng());
        let shuffled = run(vec![own], vec![theirs.select(&order)])[0].2;
        assert!(shuffled.cka.abs() < 0.05 && shuffled.low < 0.0 && shuffled.high > 0.0, "{shuffled:?}");
    }

    #[test]
    fn the_order_of_documents_does_not_matter() {
        let (own, theirs) = (noise(40, 5, 8), blurred(&noise(40, 5, 8), 9));
        let order: Vec<usize> =
            (0..10).rev().flat_map(|document| (0..4).map(move |t| 4 * document + t)).collect();
        let plain = run(vec![own.clone()], vec![theirs.clone()])[0].2;
        let turned = run(vec![own.select(&order)], vec![theirs.select(&order)])[0].2;
        assert!((plain.cka - turned.cka).abs() < 1e-9 && (plain.high - turned.high).abs() < 1e-9);
    }

    #[test]
    fn few_layers_are_all_compared_and_of_many_the_last_is_among_those() {
        assert_eq!((spaced(3), spaced(16)), (vec![0, 1, 2], vec![1, 3, 5, 7, 9, 11, 13, 15]));
    }

    #[test]
    fn the_title_of_several_models_names_the_least_and_the_most_alike() {
        let of = |name: &str, theirs: Features| -> Vec<(String, Pair)> {
            let pairs = run(vec![signs(2), signs(1)], vec![signs(4), theirs]);
            pairs.into_iter().map(|pair| (name.to_owned(), pair)).collect()
        };
        let found = [of("near", signs(1)), of("far", signs(2)), of("same", signs(1))].concat();
        let last: Vec<(String, f64)> =
            after_last_blocks(&found).into_iter().map(|(name, pair)| (name, pair.2.cka)).collect();
        assert_eq!(last.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["near", "far", "same"]);
        assert!(
            (last[0].1 - 1.0).abs() < 1e-9 && (last[1].1 + 1.0 / 14.0).abs() < 1e-9,
            "the last blocks alone: {last:?}"
        );
        let told = finding(&found);
        assert!(told.contains("of 3 others have a CKA of -0.07 (far) to 1.00"), "{told}");
    }
}

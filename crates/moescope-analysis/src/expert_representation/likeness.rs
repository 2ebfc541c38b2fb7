//! How alike the answers of two experts of a layer are.

use moescope_base::{Column, Table};

use crate::AnalysisError;
use crate::matrix::Features;
use crate::routing::{NullComparison, Permutations, comparison_columns};
use crate::similarity::{Compared, Measure, Parts, compared, compared_mutually};
use crate::statistics::{Bootstrap, jackknife, mean};
use crate::tabulate::bootstrap_columns;

/// Two experts of a layer and one measure, on the same tokens.
///
/// - **Unit and range:** pure number, as of [`Measure`]; 1 for answers that differ by a rotation and a scale.
/// - **Null:** the tokens of the second expert shuffled. It is low, since all experts read the same: `input` tells how alike the answers
///   are to what both read, which is a likeness that experts need not have learned.
/// - **Does not show:** that the two are used alike: most tokens were sent to neither by the router. Canonical correlations come near 1 for any two
///   experts where there are fewer different tokens than neurons.
/// - **Source:** see each [`Measure`]; answers of experts to the same tokens as in Lo et al. 2024 (arXiv 2406.18219).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertPair {
    /// Block.
    pub layer: usize,
    /// Expert with the lower number.
    pub first: usize,
    /// Expert with the higher number.
    pub second: usize,
    /// How they are compared.
    pub measure: Measure,
    /// Likeness beside that of shuffled tokens.
    pub likeness: NullComparison,
    /// The same with its 95 % interval over documents (jackknife over groups of documents, Student's t).
    pub interval: Bootstrap,
    /// Mean likeness of the two to what they read.
    pub input: f64,
}

/// Mean over the pairs of a layer, by one measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LayerLikeness {
    /// Block.
    pub(super) layer: usize,
    /// How they are compared.
    pub(super) measure: Measure,
    /// Mean over pairs, interval over documents.
    pub(super) mean: Bootstrap,
    /// The same with tokens shuffled.
    pub(super) shuffled: f64,
    /// The same of each expert and what it reads.
    pub(super) input: f64,
    /// Pairs.
    pub(super) pairs: usize,
}

/// Compares the answers of experts, each pair once by each measure; experts that answer the same to every token are left out,
/// and so are measures that are not defined for a pair.
///
/// - **Shape:** `experts[expert] = (number, answers[token, d_model])`, `input[token, d_model]`, `documents[token]`.
///
/// # Errors
/// With fewer than four documents, or if what the experts read does not vary.
pub fn expert_pairs(
    layer: usize,
    experts: &[(usize, Features)],
    input: &Features,
    documents: &[u32],
    permutations: Permutations,
) -> Result<Vec<ExpertPair>, AnalysisError> {
    Ok(of_layer(layer, experts, input, documents, permutations)?.0)
}

/// The pairs of a layer, and their means.
pub(super) fn of_layer(
    layer: usize,
    experts: &[(usize, Features)],
    input: &Features,
    documents: &[u32],
    permutations: Permutations,
) -> Result<(Vec<ExpertPair>, Vec<LayerLikeness>), AnalysisError> {
    let parts = Parts::new(documents)?;
    let varying = experts.iter().filter(|(_, answers)| varies(answers));
    let prepared: Vec<_> = varying.map(|(expert, answers)| (*expert, parts.prepare(answers))).collect();
    let read = parts.prepare(input);
    let (mut pairs, mut means) = (Vec::new(), Vec::new());
    for measure in Measure::ALL {
        // What is read stands first: some weights follow the basis of the first, and an expert's own must not matter.
        let to_input = |answers: &[_]| {
            let found = compared(&read, answers, measure, Permutations::new(0, permutations.seed));
            Ok::<f64, AnalysisError>(defined(found)?.map_or(f64::NAN, |found| found.observed))
        };
        let inputs: Vec<f64> = prepared.iter().map(|(_, of)| to_input(of)).collect::<Result<_, _>>()?;
        let (mut own, mut without) = (Vec::new(), Vec::new());
        for (place, (first, one)) in prepared.iter().enumerate() {
            for (other, (second, two)) in prepared.iter().enumerate().skip(place + 1) {
                let draws = permutations.index(pairs.len() + own.len());
                // Which of two experts has the lower number must not matter.
                let Some(found) = defined(compared_mutually(one, two, measure, draws))? else { continue };
                own.push(ExpertPair {
                    layer,
                    first: *first,
                    second: *second,
                    measure,
                    likeness: found.against(),
                    interval: found.interval(parts.documents),
                    input: f64::midpoint(inputs[place], inputs[other]),
                });
                without.push(found.without);
            }
        }
        if !own.is_empty() {
            means.push(mean_of(&own, &without, parts.documents));
        }
        pairs.append(&mut own);
    }
    Ok((pairs, means))
}

/// Nothing where a measure is not defined, as that of distances where most of them are zero.
fn defined(found: Result<Compared, AnalysisError>) -> Result<Option<Compared>, AnalysisError> {
    match found {
        Err(AnalysisError::NotFinite { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// Whether two vectors differ.
pub(crate) fn varies(features: &Features) -> bool {
    (1..features.tokens()).any(|token| features.row(token) != features.row(0))
}

/// Mean over pairs of one layer and measure, of which there is at least one; `without[pair, group]`.
fn mean_of(pairs: &[ExpertPair], without: &[Vec<f64>], documents: usize) -> LayerLikeness {
    let over = |of: fn(&ExpertPair) -> f64| mean(&pairs.iter().map(of).collect::<Vec<f64>>());
    let group = |group: usize| mean(&without.iter().map(|of| of[group]).collect::<Vec<f64>>());
    let groups: Vec<f64> = (0..without[0].len()).map(group).collect();
    LayerLikeness {
        layer: pairs[0].layer,
        measure: pairs[0].measure,
        mean: jackknife(over(|pair| pair.likeness.observed), &groups, documents),
        shuffled: over(|pair| pair.likeness.null_mean),
        input: over(|pair| pair.input),
        pairs: pairs.len(),
    }
}

/// What tables say of the measures.
const MEANING: &str = "1 where answers differ by a rotation and a scale (RSA: by a scale alone)";

/// One row for each pair and measure.
pub(super) fn table(pairs: &[ExpertPair]) -> Result<Table, AnalysisError> {
    let key = |of: fn(&ExpertPair) -> usize| pairs.iter().map(|pair| of(pair) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&ExpertPair) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
    let comparisons: Vec<NullComparison> = pairs.iter().map(|pair| pair.likeness).collect();
    let measures = pairs.iter().map(|pair| pair.measure.name().to_owned()).collect();
    let mut columns = vec![
        Column::key("measure", "how they are compared", measures),
        Column::integer_key("layer", "", "block", key(|pair| pair.layer)),
        Column::integer_key("first", "", "expert", key(|pair| pair.first)),
        Column::integer_key("second", "", "and another", key(|pair| pair.second)),
    ];
    let null = "tokens of the second shuffled";
    columns.extend(comparison_columns("likeness", "", MEANING, null, &comparisons));
    let interval = "95 %, jackknife over groups of documents, Student's t";
    let (low, high) = (real(|pair| pair.interval.low), real(|pair| pair.interval.high));
    columns.extend(Column::interval("likeness", "", interval, low, high));
    columns.push(Column::observations("likeness", "documents", key(|pair| pair.interval.units)));
    let meaning = "mean likeness of the two to what they read";
    columns.push(Column::estimate("input", "", meaning, real(|pair| pair.input)));
    let method = "All experts of a layer answer the same tokens, sent to them whatever the router chose; what a layer reads does not depend on its routes. \
                  Does not show that experts are used alike.";
    Ok(Table::new("expert_likeness", "How alike the answers of experts are", method, columns)?)
}

/// One row for each layer and measure.
pub(super) fn mean_table(means: &[LayerLikeness]) -> Result<Table, AnalysisError> {
    let key = |of: fn(&LayerLikeness) -> usize| means.iter().map(|m| of(m) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&LayerLikeness) -> f64| means.iter().map(of).collect::<Vec<f64>>();
    let measures = means.iter().map(|mean| mean.measure.name().to_owned()).collect();
    let mut columns = vec![
        Column::key("measure", "how they are compared", measures),
        Column::integer_key("layer", "", "block", key(|mean| mean.layer)),
    ];
    let values: Vec<Bootstrap> = means.iter().map(|mean| mean.mean).collect();
    columns.extend(bootstrap_columns("likeness", "", MEANING, &values));
    let null = "tokens of the second of each pair shuffled";
    columns.push(Column::null("likeness", "", null, real(|mean| mean.shuffled)));
    let meaning = "likeness of an expert's answers to what it reads";
    columns.push(Column::estimate("input", "", meaning, real(|mean| mean.input)));
    columns.push(Column::count("pairs", "pairs", "of experts", key(|mean| mean.pairs)));
    let method = "Means over the pairs of a layer; intervals by leaving out groups of documents in turn, with Student's t. Does not show that experts are \
                  used alike.";
    Ok(Table::new("expert_likeness_means", "How alike experts of a layer are", method, columns)?)
}

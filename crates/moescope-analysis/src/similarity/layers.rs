//! The instrument `similarity`: how alike the layers of a model are, by six measures.

use moescope_base::{Column, Figure, FigureKind, Table};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::{Measure, Prepared};
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, ResidualStream, Rule,
};
use crate::matrix::Features;
use crate::routing::{NullComparison, Permutations, comparison_columns};
use crate::statistics::{Bootstrap, Tail, jackknife};
use crate::{AnalysisError, check};

const METHOD: &str = "similarity";
/// Tokens that are compared.
const TOKENS: usize = 320;
/// Layers that are compared, at most, evenly spaced.
const LAYERS: usize = 8;
/// Shuffles behind each null, at most.
const SHUFFLES: usize = 39;
/// Groups of documents that are left out in turn.
const GROUPS: usize = 10;

/// Two layers and one measure.
///
/// - **Unit and range:** pure number. 1 for representations that differ by a rotation and a scale (RSA: by a scale alone); below that,
///   each measure has a scale of its own, which its null shows. Unbiased CKA and RSA may be below 0.
/// - **Null:** the tokens of the second layer shuffled.
/// - **Does not show:** that layers compute alike: what both carry on from the embedding makes them alike without any computation, and a
///   few directions of large variance may decide all measures but the canonical correlations.
/// - **Source:** see each [`Measure`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerPair {
    /// Block after which the first is read.
    pub first: usize,
    /// Block after which the second is read.
    pub second: usize,
    /// How they are compared.
    pub measure: Measure,
    /// Likeness beside that of shuffled tokens.
    pub likeness: NullComparison,
    /// Lower end of its 95 % interval over documents (jackknife over groups of documents, with Student's t for so few groups).
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Documents.
    pub documents: usize,
}

/// Compares layers by all measures, each pair once.
///
/// # Errors
/// If there are fewer than two layers, four documents, or eight tokens, or a layer does not vary.
pub fn layer_similarity(
    stream: &ResidualStream,
    permutations: Permutations,
) -> Result<Vec<LayerPair>, AnalysisError> {
    let layers = stream.layers.len();
    check::at_least(METHOD, "layers", layers, 2)?;
    check::at_least(METHOD, "tokens", stream.documents.len(), 8)?;
    let parts = Parts::new(&stream.documents)?;
    let shown: Vec<usize> = spaced(layers);
    let prepared: Vec<Vec<Prepared>> =
        shown.par_iter().map(|layer| parts.prepare(&stream.layers[*layer])).collect();
    let pairs: Vec<(usize, usize)> =
        (0..shown.len()).flat_map(|a| (a + 1..shown.len()).map(move |b| (a, b))).collect();
    let mut found = Vec::new();
    for (first, second) in pairs {
        for measure in Measure::ALL {
            let permutations = permutations.index(found.len());
            let found_here = compared(&prepared[first], &prepared[second], measure, permutations)?;
            let interval = found_here.interval(parts.documents);
            found.push(LayerPair {
                first: shown[first],
                second: shown[second],
                measure,
                likeness: found_here.against(),
                low: interval.low,
                high: interval.high,
                documents: parts.documents,
            });
        }
    }
    Ok(found)
}

/// At most [`LAYERS`] of the layers, the first and the last among them.
fn spaced(layers: usize) -> Vec<usize> {
    let count = layers.min(LAYERS);
    (0..count).map(|at| at * (layers - 1) / (count - 1)).collect()
}

/// Likeness of two representations as it is, without each group of documents in turn, and with the tokens of the second shuffled.
pub(crate) struct Compared {
    /// Of all tokens.
    pub(crate) observed: f64,
    /// Without each group: `[group]`.
    pub(crate) without: Vec<f64>,
    /// With tokens shuffled: `[draw]`.
    pub(crate) draws: Vec<f64>,
}

impl Compared {
    /// Beside the shuffled tokens.
    pub(crate) fn against(&self) -> NullComparison {
        NullComparison::new(self.observed, &self.draws, Tail::Greater)
    }

    /// With its interval over so many documents.
    pub(crate) fn interval(&self, documents: usize) -> Bootstrap {
        jackknife(self.observed, &self.without, documents)
    }
}

/// Compares two representations; the last entry of each list is the whole, those before lack a group.
///
/// # Errors
/// If a representation does not vary.
pub(crate) fn compared(
    first: &[Prepared],
    second: &[Prepared],
    measure: Measure,
    permutations: Permutations,
) -> Result<Compared, AnalysisError> {
    compared_by(first, second, permutations, |own, other, order| own.compare(other, order, measure))
}

/// As [`compared`] where neither stands first, see [`Prepared::compare_mutually`].
///
/// # Errors
/// As [`compared`].
pub(crate) fn compared_mutually(
    first: &[Prepared],
    second: &[Prepared],
    measure: Measure,
    permutations: Permutations,
) -> Result<Compared, AnalysisError> {
    compared_by(first, second, permutations, |own, other, order| own.compare_mutually(other, order, measure))
}

fn compared_by(
    first: &[Prepared],
    second: &[Prepared],
    permutations: Permutations,
    compare: impl Fn(&Prepared, &Prepared, &[usize]) -> f64 + Sync,
) -> Result<Compared, AnalysisError> {
    let of = |at: usize| {
        let order: Vec<usize> = (0..first[at].tokens()).collect();
        compare(&first[at], &second[at], &order)
    };
    let groups = first.len() - 1;
    let observed = of(groups);
    check::finite(METHOD, &[observed])?;
    let order: Vec<usize> = (0..first[groups].tokens()).collect();
    let draws = permutations.draw(
        || order.clone(),
        |shuffled, rng| {
            shuffled.copy_from_slice(&order);
            shuffled.shuffle(rng);
            compare(&first[groups], &second[groups], shuffled)
        },
    );
    Ok(Compared { observed, without: (0..groups).map(of).collect(), draws })
}

/// Tokens of which groups of documents are left out.
pub(crate) struct Parts {
    /// Documents in all.
    pub(crate) documents: usize,
    /// Tokens without each group in turn, and all of them last: `[group + 1][token]`.
    kept: Vec<Vec<usize>>,
}

impl Parts {
    /// Deals the documents of tokens into at most ten groups.
    ///
    /// # Errors
    /// With fewer than four documents.
    pub(crate) fn new(documents: &[u32]) -> Result<Parts, AnalysisError> {
        let mut names = documents.to_vec();
        names.sort_unstable();
        names.dedup();
        check::documents(METHOD, names.len())?;
        let groups = names.len().min(GROUPS);
        let group = |document: &u32| names.binary_search(document).expect("a document of the list") % groups;
        let kept = |left_out| (0..documents.len()).filter(|t| group(&documents[*t]) != left_out).collect();
        // No group has the last number.
        Ok(Parts { documents: names.len(), kept: (0..=groups).map(kept).collect() })
    }

    /// What measures need of a representation without each group, and of all of it last.
    pub(crate) fn prepare(&self, features: &Features) -> Vec<Prepared> {
        self.kept.par_iter().map(|tokens| Prepared::new(&features.select(tokens))).collect()
    }
}

/// The instrument `similarity`.
pub struct LayerSimilarity;

const fn alike(says: &'static str, rows: &'static [(&'static str, &'static str)]) -> Reading {
    Reading { says, table: "similarity", rows, value: "likeness", rule: Rule::Significant }
}
const LINEAR: Reading = alike("layers are alike (linear CKA)", &[("measure", "linear CKA")]);
const RBF: Reading = alike("layers are alike (RBF CKA)", &[("measure", "RBF CKA")]);
const SVCCA: Reading = alike("layers are alike (SVCCA)", &[("measure", "SVCCA")]);
const PWCCA: Reading = alike("layers are alike (PWCCA)", &[("measure", "PWCCA")]);
const PROCRUSTES: Reading = alike("layers are alike (Procrustes)", &[("measure", "Procrustes")]);
const RSA: Reading = alike("layers are alike (RSA)", &[("measure", "RSA")]);

const PROMISES: &[Promise] = &[
    Promise::finds(Property::EarlyAnswer, LINEAR),
    Promise::finds(Property::EarlyAnswer, RBF),
    Promise::finds(Property::EarlyAnswer, SVCCA),
    Promise::finds(Property::EarlyAnswer, PWCCA),
    Promise::finds(Property::EarlyAnswer, PROCRUSTES),
    Promise::finds(Property::EarlyAnswer, RSA),
    Promise::is_silent(Property::Overwriting, LINEAR),
    Promise::is_silent(Property::Overwriting, SVCCA),
    Promise::is_silent(Property::Overwriting, PWCCA),
    Promise::is_silent(Property::Overwriting, PROCRUSTES),
];

impl Instrument for LayerSimilarity {
    fn about(&self) -> About {
        About {
            name: "similarity",
            group: Group::Representation,
            question: "How alike are the residual streams after different blocks, by six measures?",
            null: "the tokens of the second layer shuffled",
            does_not_show: "that layers compute alike: what both carry on from the embedding makes them alike without any computation",
            source: "CKA: Kornblith et al. 2019, unbiased; SVCCA: Raghu et al. 2017; PWCCA: Morcos et al. 2018; Procrustes: Ding et al. 2021; RSA: Kriegeskorte et al. 2008",
            passes: "one for each batch of an excerpt",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let mut permutations = material.permutations(METHOD);
        permutations.count = permutations.count.min(SHUFFLES);
        let stream = material.residual_stream(TOKENS)?;
        let found = layer_similarity(&stream, permutations)?;
        let figure = Figure {
            id: "similarity".into(),
            title: finding(&found),
            caption: "Unbiased linear CKA of the residual stream after two blocks; shuffled tokens give 0. The table has five more measures.".into(),
            table: "similarity_cka".into(),
            kind: FigureKind::Heatmap {
                x: "second".into(),
                y: "first".into(),
                value: "likeness".into(),
                center: Some(0.0),
            },
        };
        let linear: Vec<LayerPair> =
            found.iter().copied().filter(|pair| pair.measure == Measure::LinearCka).collect();
        let tables = vec![table("similarity", &found)?, table("similarity_cka", &linear)?];
        Ok(Finding { tables, figures: vec![figure] })
    }
}

fn table(name: &str, pairs: &[LayerPair]) -> Result<Table, AnalysisError> {
    let key = |of: fn(&LayerPair) -> usize| pairs.iter().map(|pair| of(pair) as i64).collect::<Vec<i64>>();
    let comparisons: Vec<NullComparison> = pairs.iter().map(|pair| pair.likeness).collect();
    let mut columns = vec![
        Column::key(
            "measure",
            "how they are compared",
            pairs.iter().map(|p| p.measure.name().to_owned()).collect(),
        ),
        Column::integer_key("first", "", "after this block", key(|pair| pair.first)),
        Column::integer_key("second", "", "and after this one", key(|pair| pair.second)),
    ];
    let null = "tokens of the second shuffled";
    columns.extend(comparison_columns(
        "likeness",
        "",
        "1 where they differ by a rotation and a scale (RSA: by a scale alone)",
        null,
        &comparisons,
    ));
    let real = |of: fn(&LayerPair) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
    let interval = "95 %, jackknife over groups of documents, Student's t";
    columns.extend(Column::interval("likeness", "", interval, real(|pair| pair.low), real(|pair| pair.high)));
    columns.push(Column::observations("likeness", "documents", key(|pair| pair.documents)));
    let method = "The same 320 tokens after two blocks, at most eight blocks. Canonical correlations and Procrustes compare principal components that \
                  carry 99 % of the variance, 64 at most. Does not show that layers compute alike.";
    Ok(Table::new(name, "How alike the layers are", method, columns)?)
}

fn finding(found: &[LayerPair]) -> String {
    let linear: Vec<&LayerPair> = found.iter().filter(|pair| pair.measure == Measure::LinearCka).collect();
    let least = linear.iter().min_by(|a, b| a.likeness.observed.total_cmp(&b.likeness.observed));
    least.map_or_else(String::new, |least| {
        format!(
            "The least alike layers, {} and {}, have a linear CKA of {:.2} [{:.2}, {:.2}]",
            least.first, least.second, least.likeness.observed, least.low, least.high
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;
    use crate::routing::planted;
    use moescope_base::Seed;
    use rand::RngExt;

    fn noise(tokens: usize, width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    fn stream(layers: Vec<Features>) -> ResidualStream {
        let tokens = layers[0].tokens();
        let documents = (0..tokens as u32).map(|token| token / 4).collect();
        ResidualStream { layers, documents, ..ResidualStream::default() }
    }

    fn run(layers: Vec<Features>, shuffles: usize, seed: u64) -> Vec<LayerPair> {
        layer_similarity(&stream(layers), Permutations::new(shuffles, Seed(seed))).unwrap()
    }

    #[test]
    fn a_layer_that_is_another_is_one_by_every_measure() {
        let same = noise(40, 4, 1);
        let found = run(vec![same.clone(), noise(40, 4, 2), same], 19, 1);
        assert_eq!(found.len(), 3 * Measure::ALL.len());
        for pair in found.iter().filter(|pair| (pair.first, pair.second) == (0, 2)) {
            assert!((pair.likeness.observed - 1.0).abs() < 1e-9 && pair.likeness.p_value <= 0.05, "{pair:?}");
            assert!((pair.low - 1.0).abs() < 1e-6, "{pair:?}");
        }
        assert!(finding(&found).starts_with("The least alike layers"));
        assert_eq!(table("similarity", &found).unwrap().rows(), 18);
    }

    #[test]
    fn independent_layers_are_called_alike_at_the_stated_rate() {
        let p_values = |seed: u64| run(vec![noise(24, 3, 7000 + seed), noise(24, 3, 9000 + seed)], 19, seed);
        let all: Vec<Vec<LayerPair>> = (0..200).map(p_values).collect();
        for (place, measure) in Measure::ALL.into_iter().enumerate() {
            let rate = planted::rejection_rate(200, |seed| all[seed as usize][place].likeness.p_value);
            // Of 200 tests at 5 %, 22 and more reject in less than 1 of 1,000 cases.
            assert!(rate < 0.11, "{}: {rate}", measure.name());
        }
    }

    #[test]
    fn repeated_tokens_and_marks_that_know_nothing_of_them_are_called_alike_at_the_stated_rate() {
        // As where a last block writes over the first: 96 tokens of twelve kinds, then two of eight large marks drawn for each of them.
        let drawn = |seed: u64| {
            let mut rng = Seed(seed).child("overwritten").rng();
            let (mut before, mut after) = (vec![0.0; 96 * 20], vec![0.0; 96 * 20]);
            for token in 0..96 {
                let kind = rng.random_range(0..12);
                (before[token * 20 + kind], after[token * 20 + kind]) = (1.0, 1.0);
                let mut marks: Vec<usize> = (12..20).collect();
                marks.shuffle(&mut rng);
                marks[..2].iter().for_each(|mark| after[token * 20 + mark] = 400.0);
            }
            [before, after].map(|values| Prepared::new(&Features::new(20, &values).unwrap()))
        };
        let p_values = |seed: u64| {
            let [first, second] = drawn(seed);
            [Measure::LinearCka, Measure::Svcca, Measure::Pwcca, Measure::Procrustes].map(|measure| {
                let draws = Permutations::new(19, Seed(seed));
                let found =
                    compared(std::slice::from_ref(&first), std::slice::from_ref(&second), measure, draws);
                found.unwrap().against().p_value
            })
        };
        let all: Vec<[f64; 4]> = (0..200_u64).into_par_iter().map(p_values).collect();
        let rate = |place: usize| planted::rejection_rate(200, |seed| all[seed as usize][place]);
        // Of 200 tests at 5 %, 22 and more reject in less than 1 of 1,000 cases.
        let rates = [0, 1, 2, 3].map(rate);
        assert!(rates.iter().all(|rate| *rate < 0.11), "{rates:?}");
    }

    #[test]
    fn the_order_of_tokens_does_not_matter() {
        let (first, second) = (noise(32, 3, 3), noise(32, 5, 4));
        let order: Vec<usize> =
            (0..8).rev().flat_map(|document| (0..4).map(move |t| 4 * document + t)).collect();
        let own = run(vec![first.clone(), second.clone()], 9, 1);
        let turned = run(vec![first.select(&order), second.select(&order)], 9, 1);
        for (a, b) in own.iter().zip(&turned) {
            assert!((a.likeness.observed - b.likeness.observed).abs() < 1e-9, "{a:?} {b:?}");
        }
    }

    #[test]
    fn layers_are_spaced_evenly_and_too_few_are_refused() {
        assert_eq!((spaced(3), spaced(32)), (vec![0, 1, 2], vec![0, 4, 8, 13, 17, 22, 26, 31]));
        let one = stream(vec![noise(40, 4, 1)]);
        assert!(layer_similarity(&one, Permutations::new(9, Seed(1))).is_err());
    }
}

//! Expert similarity: how alike the weights of the experts of a layer are, as they stand and with their neurons matched.

mod gives;

use moescope_base::{Column, FeedForwardShape, Figure, FigureKind, Parameters, Seed, SubjectShape, Table};
use rand::seq::{IndexedRandom, SliceRandom};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::expert_neurons::Neurons;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::{mean, standard_deviation};
use crate::{AnalysisError, check};

/// Pairs of experts that are looked at in a layer, at most; more are drawn at random.
pub const PAIRS: usize = 120;
/// Neurons of the first expert of a pair that look for a partner among all of the second, at most; more are drawn at random.
pub const NEURONS: usize = 128;
/// Pairs of random experts behind the null of a layer, at most.
pub const RANDOM_PAIRS: usize = 30;

/// How alike the experts of one layer are.
///
/// A neuron is what it reads with and what it writes: its rows of gate and up and its column of down. `plain` compares neuron by neuron
/// as they stand, `matched` after the one-to-one matching that brings them nearest.
///
/// - **Unit and range:** cosines of flattened weights, from −1 to 1.
/// - **Null:** experts whose neurons have the same lengths and random directions. Of `plain` it is 0; of `matched` above it, because a
///   matching takes the best of many.
/// - **Does not show:** that experts compute alike: a gate may be another on the tokens that reach it, and coordinates that are large in
///   every expert raise every cosine. Nor where the likeness is from: experts that were copies once, as upcycled ones, stay alike. A
///   pair that is not drawn is not seen.
/// - **Source:** similarity with and without reordering of neurons, Lo et al. 2024 (arXiv 2406.18219); here with a null.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSimilarity {
    /// Block.
    pub layer: usize,
    /// The pairs that were looked at, in ascending order.
    pub pairs: Vec<PairSimilarity>,
    /// Neurons of an expert that looked for a partner.
    pub neurons: usize,
    /// Mean of `matched` over pairs of random experts.
    pub null: f64,
    /// What a pair of random experts exceeds in less than 5 % of layers of so many pairs (Bonferroni over pairs, Student's t for one
    /// more draw).
    pub threshold: f64,
    /// Pairs of random experts behind the null.
    pub random_pairs: usize,
}

/// Two experts of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairSimilarity {
    /// The lower number.
    pub first: usize,
    /// The higher number.
    pub second: usize,
    /// Cosine of the weights as they stand.
    pub plain: f64,
    /// Cosine with the neurons matched.
    pub matched: f64,
}

impl LayerSimilarity {
    /// Pairs that are more alike than pairs of random experts.
    pub fn alike(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.matched > self.threshold).count()
    }

    /// The pair with the largest matched cosine.
    pub fn closest(&self) -> Option<&PairSimilarity> {
        self.pairs.iter().max_by(|a, b| a.matched.total_cmp(&b.matched))
    }
}

/// Compares the experts of each routed layer; `random_pairs`, at least 3, are behind each null.
///
/// # Errors
/// If no layer has two experts, or weights cannot be read or are not finite.
pub fn expert_similarity(
    parameters: &mut dyn Parameters,
    shape: &SubjectShape,
    random_pairs: usize,
    seed: Seed,
) -> Result<Vec<LayerSimilarity>, AnalysisError> {
    check::at_least("expert similarity", "pairs of random experts", random_pairs, 3)?;
    let mut found = Vec::new();
    for (layer, feed_forward) in shape.feed_forward.iter().enumerate() {
        if let FeedForwardShape::Routed { experts: experts @ 2.., .. } = *feed_forward {
            let draws = (random_pairs, seed.index(layer as u64));
            found.push(of_layer(parameters, layer, experts, draws)?);
        }
    }
    check::at_least("expert similarity", "layers of two experts or more", found.len(), 1)?;
    Ok(found)
}

fn of_layer(
    parameters: &mut dyn Parameters,
    layer: usize,
    experts: usize,
    (random_pairs, seed): (usize, Seed),
) -> Result<LayerSimilarity, AnalysisError> {
    let mut chosen: Vec<(usize, usize)> =
        (0..experts).flat_map(|first| (first + 1..experts).map(move |second| (first, second))).collect();
    chosen.shuffle(&mut seed.child("pairs").rng());
    chosen.truncate(PAIRS);
    chosen.sort_unstable();
    let mut held = (0, Neurons::read(parameters, layer, 0)?);
    let mut sample: Vec<usize> = (0..held.1.count()).collect();
    sample.shuffle(&mut seed.child("neurons").rng());
    sample.truncate(NEURONS);
    sample.sort_unstable();
    let mut pairs = Vec::new();
    // Two experts are in memory at a time: the layers of large models do not fit as a whole.
    for (first, second) in &chosen {
        if held.0 != *first {
            held = (*first, Neurons::read(parameters, layer, *first)?);
        }
        let other = Neurons::read(parameters, layer, *second)?;
        let (plain, matched) = (held.1.plain(&other), held.1.matched(&other, &sample));
        check::finite("expert similarity", &[plain, matched])?;
        pairs.push(PairSimilarity { first: *first, second: *second, plain, matched });
    }
    let mut null = Vec::new();
    for draw in 0..random_pairs {
        let mut rng = seed.child("random experts").index(draw as u64).rng();
        let (first, second) = *chosen.choose(&mut rng).expect("two experts make a pair");
        let [first, second] = [first, second].map(|expert| Neurons::read(parameters, layer, expert));
        let seeds = [0, 1].map(|side| seed.child("directions").index(2 * draw as u64 + side));
        null.push(first?.scrambled(seeds[0]).matched(&second?.scrambled(seeds[1]), &sample));
    }
    let threshold = prediction_bound(&null, 0.05 / pairs.len() as f64);
    Ok(LayerSimilarity { layer, pairs, neurons: sample.len(), null: mean(&null), threshold, random_pairs })
}

/// What one more draw exceeds with this probability, if draws are normal.
pub(crate) fn prediction_bound(draws: &[f64], probability: f64) -> f64 {
    let n = draws.len() as f64;
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::NAN, |t| t.inverse_cdf(1.0 - probability));
    mean(draws) + quantile * standard_deviation(draws) * (1.0 + 1.0 / n).sqrt()
}

/// One row for each layer.
///
/// # Errors
/// If the columns make no table.
pub fn table(layers: &[LayerSimilarity]) -> Result<Table, AnalysisError> {
    let count = |pick: &dyn Fn(&LayerSimilarity) -> usize| layers.iter().map(|l| pick(l) as i64).collect();
    let real = |pick: &dyn Fn(&LayerSimilarity) -> f64| layers.iter().map(pick).collect::<Vec<f64>>();
    let over = |pick: fn(&PairSimilarity) -> f64| {
        real(&|layer| mean(&layer.pairs.iter().map(pick).collect::<Vec<f64>>()))
    };
    let closest = |layer: &LayerSimilarity| {
        layer.closest().map_or_else(String::new, |pair| format!("{} and {}", pair.first, pair.second))
    };
    let columns = vec![
        Column::integer_key("layer", "", "block", count(&|layer| layer.layer)),
        Column::count(
            "pairs",
            "pairs",
            "pairs of experts that were compared",
            count(&|layer| layer.pairs.len()),
        ),
        Column::estimate("matched", "cosine", "mean over pairs, neurons matched", over(|pair| pair.matched)),
        Column::null(
            "matched",
            "cosine",
            "experts with neurons of the same lengths in random directions",
            real(&|layer| layer.null),
        ),
        Column::observations("matched_null", "pairs of random experts", count(&|layer| layer.random_pairs)),
        Column::estimate(
            "plain",
            "cosine",
            "mean over pairs, neurons as they stand",
            over(|pair| pair.plain),
        ),
        Column::null("plain", "cosine", "random directions", real(&|_| 0.0)),
        Column::estimate(
            "largest",
            "cosine",
            "largest over pairs, neurons matched",
            real(&|layer| layer.closest().map_or(f64::NAN, |pair| pair.matched)),
        ),
        Column::null(
            "largest",
            "cosine",
            "what random experts exceed in less than 5 % of layers of so many pairs",
            real(&|layer| layer.threshold),
        ),
        Column::text(
            "closest",
            "the pair with the largest matched cosine",
            layers.iter().map(closest).collect(),
        ),
        Column::count(
            "alike",
            "pairs",
            "pairs above what random experts exceed in less than 5 % of layers",
            count(&LayerSimilarity::alike),
        ),
        Column::count(
            "neurons",
            "neurons",
            "neurons of an expert that look for a partner",
            count(&|layer| layer.neurons),
        ),
    ];
    let method = format!(
        "Cosine of flattened weights of two experts, as they stand and with neurons matched one to one to be nearest. At most \
         {PAIRS} pairs of a layer and {NEURONS} neurons of an expert, drawn at random. Does not show that experts compute alike."
    );
    Ok(Table::new("expert_similarity", "How alike the weights of experts are", &method, columns)?)
}

/// The instrument `expert-similarity`.
pub struct ExpertSimilarity;

const ALIKE: Reading = Reading {
    says: "two experts are alike",
    table: "expert_similarity",
    rows: &[("layer", "0")],
    value: "largest",
    rule: Rule::Above(1.0),
};

const PROMISES: &[Promise] =
    &[Promise::finds(Property::TwinExperts, ALIKE), Promise::is_silent(Property::RandomRoutes, ALIKE)];

impl Instrument for ExpertSimilarity {
    fn about(&self) -> About {
        About {
            name: "expert-similarity",
            group: Group::Weights,
            question: "Are the weights of two experts alike, as they stand or with their neurons matched?",
            null: "experts whose neurons have the same lengths and random directions",
            does_not_show: "that experts compute alike, nor whether likeness was learned or left from a common beginning",
            source: "similarity with reordered neurons, Lo et al. 2024 (arXiv 2406.18219)",
            passes: "none; products of the neurons of at most 120 pairs of experts for each layer",
            routed: true,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (shape, seed) = (material.subject.shape().clone(), material.seed.child("expert similarity"));
        let random_pairs = material.permutations.clamp(3, RANDOM_PAIRS);
        let parameters = material.parameters("expert similarity")?;
        let layers = expert_similarity(parameters, &shape, random_pairs, seed)?;
        let figure = Figure {
            id: "expert_similarity".into(),
            title: finding(&layers),
            caption: "Mean cosine over pairs of experts with their neurons matched, beside experts of random directions.".into(),
            table: "expert_similarity".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "matched".into(), series: None },
        };
        Ok(Finding { tables: vec![table(&layers)?], figures: vec![figure] })
    }
}

fn finding(layers: &[LayerSimilarity]) -> String {
    let pairs: usize = layers.iter().map(|layer| layer.pairs.len()).sum();
    let alike: usize = layers.iter().map(LayerSimilarity::alike).sum();
    let matched: Vec<f64> =
        layers.iter().flat_map(|layer| layer.pairs.iter().map(|pair| pair.matched)).collect();
    let null: Vec<f64> = layers.iter().map(|layer| layer.null).collect();
    format!(
        "With neurons matched, two experts of a layer have a cosine of {:.2}, random ones of {:.2}; {alike} of {} {} more \
         alike than random ones",
        mean(&matched),
        mean(&null),
        crate::wording::counted(pairs, "pair", "pairs"),
        if alike == 1 { "is" } else { "are" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::random_rotation;
    use crate::planted_parameters::PlantedParameters;
    use moescope_base::WeightMatrix;
    use proptest::prelude::*;

    fn run(planted: &PlantedParameters, seed: u64) -> LayerSimilarity {
        let shape = planted.shape(1);
        expert_similarity(&mut planted.clone(), &shape, 20, Seed(seed)).unwrap().remove(0)
    }

    fn pair(found: &LayerSimilarity, first: usize, second: usize) -> PairSimilarity {
        *found.pairs.iter().find(|pair| (pair.first, pair.second) == (first, second)).unwrap()
    }

    #[test]
    fn a_hand_worked_pair() {
        // Two neurons of width 1: (1, 0, 0) and (0, 2, 0); of the other expert (0, 1, 0) and (3, 0, 0).
        let matrix = |data: [f32; 2], columns| WeightMatrix::new(columns, data.to_vec()).unwrap();
        let expert = |gate, up| [matrix(gate, 1), matrix(up, 1), matrix([0.0, 0.0], 2)];
        let experts = vec![expert([1.0, 0.0], [0.0, 2.0]), expert([0.0, 3.0], [1.0, 0.0])];
        let planted = PlantedParameters { router: None, experts };
        let [first, second] = [0, 1].map(|expert| Neurons::read(&mut planted.clone(), 0, expert).unwrap());
        assert_eq!(first.plain(&second), 0.0);
        assert!((first.matched(&second, &[0, 1]) - 5.0 / 50f64.sqrt()).abs() < 1e-12);
        // The second neuron alone finds (0, 1, 0).
        assert!((first.matched(&second, &[1]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_twin_is_found_and_a_twin_in_another_order_by_matching_alone() {
        let mut planted = PlantedParameters::gaussian(4, 200, 6, 1);
        planted.experts[2] = planted.experts[0].clone();
        planted.experts[3] = planted.experts[1].clone();
        planted.reorder(3, &(0..200).rev().collect::<Vec<_>>());
        let found = run(&planted, 1);
        assert_eq!((found.alike(), found.neurons, found.pairs.len()), (2, NEURONS, 6));
        let (twin, reordered) = (pair(&found, 0, 2), pair(&found, 1, 3));
        assert!((twin.plain - 1.0).abs() < 1e-6 && (twin.matched - 1.0).abs() < 1e-6);
        assert!(reordered.plain.abs() < 0.1 && (reordered.matched - 1.0).abs() < 1e-6, "{reordered:?}");
        assert_eq!(table(&[found]).unwrap().rows(), 1);
    }

    #[test]
    fn independent_experts_are_called_alike_at_the_stated_rate() {
        let found = |seed: &u64| run(&PlantedParameters::gaussian(4, 12, 8, *seed), *seed).alike() > 0;
        let called = (0..200).filter(found).count();
        // Of 200 layers at 5 %, 20 and more are called alike in less than 1 of 300 cases.
        assert!(called < 20, "{called} of 200");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let mut alone = PlantedParameters::gaussian(1, 3, 2, 1);
        let shape = alone.shape(1);
        assert!(expert_similarity(&mut alone, &shape, 20, Seed(1)).is_err());
        let mut broken = PlantedParameters::gaussian(2, 3, 2, 1);
        broken.experts[1][0] = WeightMatrix::new(2, vec![f32::NAN; 6]).unwrap();
        let (shape, seed) = (broken.shape(1), Seed(1));
        assert!(matches!(
            expert_similarity(&mut broken, &shape, 20, seed),
            Err(AnalysisError::NotFinite { .. })
        ));
    }

    #[test]
    fn names_of_experts_and_a_turned_basis_of_the_stream_do_not_matter() {
        let mut planted = PlantedParameters::gaussian(4, 20, 6, 7);
        planted.experts[2] = planted.experts[0].clone();
        planted.reorder(2, &(0..20).rev().collect::<Vec<_>>());
        let rotation = random_rotation(6, Seed(3));
        let turned = |[gate, up, down]: &[WeightMatrix; 3]| {
            // Gate and up read the stream along rows, down writes it along columns.
            let reads = [gate, up].map(|matrix| {
                let rows = (0..20).flat_map(|row| {
                    let of = |at: usize| {
                        (0..6).map(|c| rotation[(at, c)] as f32 * matrix.row(row)[c]).sum::<f32>()
                    };
                    (0..6).map(of).collect::<Vec<f32>>()
                });
                WeightMatrix::new(6, rows.collect()).unwrap()
            });
            let entry = |row: usize, column: usize| -> f32 {
                (0..6).map(|c| rotation[(row, c)] as f32 * down.row(c)[column]).sum()
            };
            let down = (0..6).flat_map(|row| (0..20).map(move |column| (row, column)));
            let down = WeightMatrix::new(20, down.map(|(row, column)| entry(row, column)).collect()).unwrap();
            let [gate, up] = reads;
            [gate, up, down]
        };
        let experts = planted.experts.iter().rev().map(turned).collect();
        let other = PlantedParameters { experts, ..planted.clone() };
        let (own, other) = (run(&planted, 1), run(&other, 1));
        assert_eq!((own.alike(), other.alike()), (1, 1));
        for (first, second) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
            let (own, other) = (pair(&own, first, second), pair(&other, 3 - second, 3 - first));
            assert!((own.plain - other.plain).abs() < 1e-5, "{own:?} {other:?}");
            assert!((own.matched - other.matched).abs() < 1e-5, "{own:?} {other:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn order_of_neurons_and_scale_of_an_expert_do_not_matter_once_matched(seed in any::<u64>(), scale in 0.5f32..4.0) {
            let planted = PlantedParameters::gaussian(2, 10, 4, 3);
            let mut other = planted.clone();
            let mut order: Vec<usize> = (0..10).collect();
            order.shuffle(&mut Seed(seed).rng());
            other.reorder(1, &order);
            for matrix in &mut other.experts[1] {
                let data = matrix.data().iter().map(|x| x * scale).collect();
                *matrix = WeightMatrix::new(matrix.columns(), data).unwrap();
            }
            prop_assert!((run(&planted, 1).pairs[0].matched - run(&other, 1).pairs[0].matched).abs() < 1e-5);
        }
    }
}

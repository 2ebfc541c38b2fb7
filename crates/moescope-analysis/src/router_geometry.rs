//! Router geometry: how the directions that a router looks for lie to each other and to the tokens that it sends.

mod gives;

use std::collections::BTreeMap;

use moescope_base::{Column, Figure, FigureKind, HookPoint, Request, Site, Table, WeightMatrix};
use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::matrix::normal;
use crate::routing::{NullComparison, Permutations, comparison_columns};
use crate::spectrum::effective_number;
use crate::statistics::Tail;
use crate::{AnalysisError, check};

/// How the rows of the router of one layer lie.
///
/// - **Unit and range:** `mean_cosine` and `largest_cosine` are absolute cosines of two rows, from 0 to 1; `effective_rank` is exp of the
///   entropy of the normalised singular values, from 1 to `min(experts, d_model)`; `alignment` is a cosine, from −1 to 1.
/// - **Null:** of cosines and rank, rows of the same lengths in random directions; of `alignment`, the mean inputs dealt to other
///   experts, which keeps what all inputs have in common.
/// - **Does not show:** that the router separates anything: directions may be far apart and the tokens all on one side. A router is moved
///   by what it chooses, so alignment may be cause or consequence of specialisation.
/// - **Source:** similarity of router directions and router–expert alignment, arXiv 2605.12476; effective rank of Roy and Vetterli 2007.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerGeometry {
    /// Block.
    pub layer: usize,
    /// Rows of the router.
    pub experts: usize,
    /// Mean of |cos| over pairs of rows; large values speak against the null.
    pub mean_cosine: NullComparison,
    /// Largest |cos| of two rows; large values speak against the null.
    pub largest_cosine: NullComparison,
    /// Effective rank of the matrix; small values speak against the null.
    pub effective_rank: NullComparison,
    /// Mean over experts of the cosine of the row and the mean input of the tokens that chose the expert; large values speak against the
    /// null.
    pub alignment: NullComparison,
    /// Experts that were chosen at all.
    pub chosen: usize,
}

/// Mean input of the tokens that chose each expert: `[expert]`, none for an expert that no token chose.
pub type MeanInputs = [Option<Vec<f64>>];

/// The geometry of the router of one layer.
///
/// # Errors
/// If there are fewer than two experts, or fewer than two were chosen, lengths disagree, or a number is not finite or a row is zero.
pub fn router_geometry(
    layer: usize,
    router: &WeightMatrix,
    inputs: &MeanInputs,
    permutations: Permutations,
) -> Result<LayerGeometry, AnalysisError> {
    permutations.check(METHOD)?;
    check::at_least(METHOD, "experts", router.rows(), 2)?;
    check::same_length(METHOD, "list of mean inputs", inputs.len(), router.rows())?;
    let rows: Vec<Vec<f64>> =
        (0..router.rows()).map(|row| router.row(row).iter().map(|x| f64::from(*x)).collect()).collect();
    let lengths: Vec<f64> = rows.iter().map(|row| length(row)).collect();
    check::finite(METHOD, &lengths)?;
    check::in_range(METHOD, "length of a row of the router", 0, lengths.iter().all(|l| *l > 0.0), "above 0")?;
    let observed = shape_of(&rows);
    let draws = permutations
        .child("rows")
        .draw(|| (), |(), rng| shape_of(&random_rows(&lengths, router.columns(), rng)));
    let compare = |which: usize, tail| {
        let draws: Vec<f64> = draws.iter().map(|draw| draw[which]).collect();
        NullComparison::new(observed[which], &draws, tail)
    };
    let (alignment, chosen) = alignment(&rows, inputs, permutations.child("alignment"))?;
    Ok(LayerGeometry {
        layer,
        experts: router.rows(),
        mean_cosine: compare(0, Tail::Greater),
        largest_cosine: compare(1, Tail::Greater),
        effective_rank: compare(2, Tail::Less),
        alignment,
        chosen,
    })
}

const METHOD: &str = "router geometry";

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    product / (length(a) * length(b))
}

/// Mean and largest |cos| of two rows, and effective rank.
fn shape_of(rows: &[Vec<f64>]) -> [f64; 3] {
    let gram = DMatrix::from_fn(rows.len(), rows.len(), |a, b| {
        rows[a].iter().zip(&rows[b]).map(|(a, b)| a * b).sum::<f64>()
    });
    let (mut sum, mut largest, mut pairs) = (0.0, 0.0f64, 0.0);
    for a in 0..rows.len() {
        for b in a + 1..rows.len() {
            let cosine = (gram[(a, b)] / (gram[(a, a)] * gram[(b, b)]).sqrt()).abs();
            (sum, largest, pairs) = (sum + cosine, largest.max(cosine), pairs + 1.0);
        }
    }
    let singular: Vec<f64> = gram.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).collect();
    [sum / pairs, largest, effective_number(&singular)]
}

/// Rows of these lengths in random directions.
fn random_rows(lengths: &[f64], width: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let mut row = |wanted: &f64| {
        let drawn: Vec<f64> = (0..width).map(|_| normal(rng)).collect();
        let factor = wanted / length(&drawn);
        drawn.into_iter().map(|x| x * factor).collect()
    };
    lengths.iter().map(&mut row).collect()
}

/// Alignment of rows and mean inputs beside mean inputs that are dealt to other experts, and how many experts have one.
fn alignment(
    rows: &[Vec<f64>],
    inputs: &MeanInputs,
    permutations: Permutations,
) -> Result<(NullComparison, usize), AnalysisError> {
    let pairs: Vec<(&Vec<f64>, &Vec<f64>)> =
        rows.iter().zip(inputs).filter_map(|(row, input)| Some((row, input.as_ref()?))).collect();
    check::at_least(METHOD, "experts that tokens chose", pairs.len(), 2)?;
    for (row, input) in &pairs {
        check::same_length(METHOD, "mean input", input.len(), row.len())?;
    }
    let n = pairs.len();
    let table: Vec<f64> =
        pairs.iter().flat_map(|(row, _)| pairs.iter().map(|(_, input)| cosine(row, input))).collect();
    check::finite(METHOD, &table)?;
    let of = |order: &[usize]| {
        order.iter().enumerate().map(|(row, input)| table[row * n + input]).sum::<f64>() / n as f64
    };
    let own: Vec<usize> = (0..n).collect();
    let draws = permutations.draw(
        || own.clone(),
        |order, rng| {
            order.copy_from_slice(&own);
            order.shuffle(rng);
            of(order)
        },
    );
    Ok((NullComparison::new(of(&own), &draws, Tail::Greater), n))
}

/// Sums of inputs by expert, from which means follow.
struct Sums {
    width: usize,
    sums: Vec<Vec<f64>>, // [expert][coordinate]
    counts: Vec<usize>,
}

impl Sums {
    fn new(experts: usize, width: usize) -> Sums {
        Sums { width, sums: vec![vec![0.0; width]; experts], counts: vec![0; experts] }
    }

    /// Adds tokens: their inputs, and the experts that they chose.
    fn add(&mut self, inputs: &[f32], choices: &[i64]) {
        let tokens = inputs.len() / self.width;
        for (input, chosen) in
            inputs.chunks_exact(self.width).zip(choices.chunks_exact(choices.len() / tokens.max(1)))
        {
            for expert in chosen.iter().map(|expert| *expert as usize) {
                self.counts[expert] += 1;
                self.sums[expert].iter_mut().zip(input).for_each(|(sum, x)| *sum += f64::from(*x));
            }
        }
    }

    fn means(self) -> Vec<Option<Vec<f64>>> {
        let mean = |(sum, count): (Vec<f64>, usize)| {
            (count > 0).then(|| sum.into_iter().map(|x| x / count as f64).collect())
        };
        self.sums.into_iter().zip(self.counts).map(mean).collect()
    }
}

/// Mean inputs by block, as [`MeanInputs`].
type InputsByLayer = BTreeMap<usize, Vec<Option<Vec<f64>>>>;

/// Mean inputs of some blocks, in one pass over the text.
fn mean_inputs(
    material: &mut Material<'_>,
    experts: &BTreeMap<usize, usize>,
) -> Result<InputsByLayer, AnalysisError> {
    let width = material.subject.shape().d_model;
    let mut sums: BTreeMap<usize, Sums> =
        experts.iter().map(|(layer, experts)| (*layer, Sums::new(*experts, width))).collect();
    let sites = |layer: usize| [Site::MlpIn, Site::RouterIndices].map(|site| HookPoint::block(site, layer));
    let points: Vec<HookPoint> = experts.keys().flat_map(|layer| sites(*layer)).collect();
    for (tokens, _) in &material.batches {
        let seen = material.subject.run(&Request::recording(tokens, &points))?;
        for (layer, sums) in &mut sums {
            let [input, chosen] = sites(*layer);
            let value = |point: HookPoint| seen.values.get(&point);
            let inputs = value(input)
                .and_then(|value| value.real())
                .ok_or(AnalysisError::NotRecorded { point: input })?;
            let choices = value(chosen)
                .and_then(|value| value.integer())
                .ok_or(AnalysisError::NotRecorded { point: chosen })?;
            sums.add(inputs, choices);
        }
    }
    Ok(sums.into_iter().map(|(layer, sums)| (layer, sums.means())).collect())
}

/// One row for each layer.
///
/// # Errors
/// If the columns make no table.
pub fn table(layers: &[LayerGeometry]) -> Result<Table, AnalysisError> {
    let count = |pick: fn(&LayerGeometry) -> usize| layers.iter().map(|layer| pick(layer) as i64).collect();
    let of = |pick: fn(&LayerGeometry) -> NullComparison| layers.iter().map(pick).collect::<Vec<_>>();
    let random = "rows of the same lengths in random directions";
    let mut columns = vec![
        Column::integer_key("layer", "", "block", count(|layer| layer.layer)),
        Column::count("experts", "experts", "rows of the router", count(|layer| layer.experts)),
    ];
    let meaning = "mean cosine of an expert's row and the mean input of its tokens";
    columns.extend(comparison_columns(
        "alignment",
        "cosine",
        meaning,
        "mean inputs dealt to other experts",
        &of(|l| l.alignment),
    ));
    columns.push(Column::count(
        "chosen",
        "experts",
        "experts that any token chose",
        count(|layer| layer.chosen),
    ));
    let meaning = "mean absolute cosine of two rows";
    columns.extend(comparison_columns("mean_cosine", "cosine", meaning, random, &of(|l| l.mean_cosine)));
    let meaning = "largest absolute cosine of two rows";
    columns.extend(comparison_columns(
        "largest_cosine",
        "cosine",
        meaning,
        random,
        &of(|l| l.largest_cosine),
    ));
    let meaning = "exp of the entropy of the normalised singular values";
    columns.extend(comparison_columns(
        "effective_rank",
        "directions",
        meaning,
        random,
        &of(|l| l.effective_rank),
    ));
    let method = "Rows of the router against each other and against the normalised inputs of the tokens that chose the expert. Routers that do \
                  not score are left out. Does not show that the router separates anything.";
    Ok(Table::new("router_geometry", "How the directions of the router lie", method, columns)?)
}

/// The instrument `router-geometry`.
pub struct RouterGeometry;

const ALIGNED: Reading = Reading {
    says: "rows point at the tokens of their experts",
    table: "router_geometry",
    rows: &[],
    value: "alignment",
    rule: Rule::Significant,
};
const CROWDED: Reading = Reading {
    says: "rows are more alike than random ones",
    table: "router_geometry",
    rows: &[],
    value: "mean_cosine",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::TokenRoutes, ALIGNED),
    Promise::finds(Property::CrowdedRouters, CROWDED),
    Promise::is_silent(Property::ScatteredRouters, CROWDED),
];

impl Instrument for RouterGeometry {
    fn about(&self) -> About {
        About {
            name: "router-geometry",
            group: Group::Weights,
            question: "Do the directions of the router lie apart, and do they point at the tokens that they choose?",
            null: "rows of the same lengths in random directions; mean inputs dealt to other experts",
            does_not_show: "that the router separates anything, nor what came first, alignment or specialisation",
            source: "router directions and router–expert alignment, arXiv 2605.12476; effective rank, Roy and Vetterli 2007",
            passes: "one for each batch of an excerpt",
            routed: true,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let mut routers = Vec::new();
        for layer in material.subject.shape().routed_layers() {
            let router = material.parameters(METHOD)?.router(layer)?;
            routers.extend(router.map(|router| (layer, router)));
        }
        check::at_least(METHOD, "routers that score", routers.len(), 1)?;
        let experts = routers.iter().map(|(layer, router)| (*layer, router.rows())).collect();
        let inputs = mean_inputs(material, &experts)?;
        let permutations = material.permutations("router geometry");
        let of = |(layer, router): &(usize, WeightMatrix)| {
            router_geometry(*layer, router, &inputs[layer], permutations.index(*layer))
        };
        let layers: Vec<LayerGeometry> = routers.iter().map(of).collect::<Result<_, _>>()?;
        let figure = Figure {
            id: "router_geometry".into(),
            title: finding(&layers),
            caption: "Mean cosine of an expert's row of the router and the mean input of its tokens, beside inputs of other experts.".into(),
            table: "router_geometry".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "alignment".into(), series: None },
        };
        Ok(Finding { tables: vec![table(&layers)?], figures: vec![figure] })
    }
}

fn finding(layers: &[LayerGeometry]) -> String {
    let mean =
        |pick: fn(&LayerGeometry) -> f64| layers.iter().map(pick).sum::<f64>() / layers.len().max(1) as f64;
    format!(
        "Rows of the router point at their tokens with a cosine of {:.2}, at those of other experts with {:.2}; two rows have |cos| {:.2}, \
         random ones {:.2}",
        mean(|layer| layer.alignment.observed),
        mean(|layer| layer.alignment.null_mean),
        mean(|layer| layer.mean_cosine.observed),
        mean(|layer| layer.mean_cosine.null_mean)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::random_rotation;
    use crate::planted_parameters::gaussian;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;

    const PICKS: [fn(&LayerGeometry) -> NullComparison; 4] =
        [|l| l.alignment, |l| l.mean_cosine, |l| l.largest_cosine, |l| l.effective_rank];

    fn matrix(columns: usize, rows: &[f32]) -> WeightMatrix {
        WeightMatrix::new(columns, rows.to_vec()).unwrap()
    }

    /// Tokens with a common part, each sent to `choose(token, input)`: mean inputs by expert.
    fn sent(
        router: &WeightMatrix,
        seed: u64,
        choose: impl Fn(usize, &[f32]) -> usize,
    ) -> Vec<Option<Vec<f64>>> {
        let (d, mut rng) = (router.columns(), Seed(seed).child("tokens").rng());
        let mut sums = Sums::new(router.rows(), d);
        for token in 0..300 {
            let x: Vec<f32> =
                (0..d).map(|at| normal(&mut rng) as f32 + if at == 0 { 3.0 } else { 0.0 }).collect();
            sums.add(&x, &[choose(token, &x) as i64]);
        }
        sums.means()
    }

    fn best(router: &WeightMatrix, x: &[f32]) -> usize {
        let score = |row: usize| router.row(row).iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
        (0..router.rows()).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap()
    }

    fn run(router: &WeightMatrix, inputs: &MeanInputs, seed: u64) -> LayerGeometry {
        router_geometry(0, router, inputs, Permutations::new(39, Seed(seed))).unwrap()
    }

    #[test]
    fn a_hand_worked_router() {
        // Rows (1, 0), (0, 2) and (1, 1): |cos| 0, √½ and √½. Singular values: of the Gram matrix of columns ((2, 1), (1, 5)).
        let router = matrix(2, &[1.0, 0.0, 0.0, 2.0, 1.0, 1.0]);
        let mut sums = Sums::new(3, 2);
        sums.add(&[1.0, 0.0, 3.0, 0.0, 0.0, 1.0], &[0, 2, 2, 1, 1, 0]);
        let inputs = sums.means();
        assert_eq!(inputs[2], Some(vec![2.0, 0.0]));
        let found = run(&router, &inputs, 1);
        let half = 0.5f64.sqrt();
        assert!((found.mean_cosine.observed - 2.0 * half / 3.0).abs() < 1e-9);
        assert!((found.largest_cosine.observed - half).abs() < 1e-9);
        let [a, b] = [-1.0, 1.0].map(|sign| ((7.0 + sign * 13f64.sqrt()) / 2.0).sqrt());
        let (p, q) = (a / (a + b), b / (a + b));
        assert!((found.effective_rank.observed - (-p * p.ln() - q * q.ln()).exp()).abs() < 1e-6);
        // Mean inputs (½, ½), (3/2, ½) and (2, 0).
        let wanted = (half + 1.0 / 10f64.sqrt() + half) / 3.0;
        assert!((found.alignment.observed - wanted).abs() < 1e-9);
    }

    #[test]
    fn tokens_that_the_router_chose_are_pointed_at_and_rows_of_one_direction_are_found() {
        let router = gaussian(6, 12, &mut Seed(2).rng());
        let found = run(&router, &sent(&router, 1, |_, x| best(&router, x)), 1);
        assert!(found.alignment.p_value <= 0.05 && found.alignment.excess() > 0.2, "{found:?}");
        assert!(found.mean_cosine.p_value > 0.05 && found.effective_rank.p_value > 0.05);

        let common =
            |row: usize| router.row(row).iter().enumerate().map(|(at, x)| if at == 3 { 9.0 } else { *x });
        let crowded = matrix(12, &(0..6).flat_map(common).collect::<Vec<_>>());
        let found = run(&crowded, &sent(&crowded, 1, |_, x| best(&crowded, x)), 1);
        let p_values = [found.mean_cosine, found.largest_cosine, found.effective_rank].map(|c| c.p_value);
        assert!(p_values.iter().all(|p| *p <= 0.05), "{p_values:?}");
        assert_eq!(table(&[found]).unwrap().rows(), 1);
    }

    #[test]
    fn random_directions_and_random_routes_are_rejected_at_the_stated_rate() {
        let of = |seed: u64| {
            let router = gaussian(5, 8, &mut Seed(seed).child("router").rng());
            run(&router, &sent(&router, seed, |token, _| token % 5), seed)
        };
        // Of 200 tests at 5 %, 20 and more reject in less than 1 of 300 cases.
        for pick in PICKS {
            let rate = planted::rejection_rate(200, |seed| pick(&of(seed)).p_value);
            assert!(rate < 0.1, "{rate}");
        }
    }

    #[test]
    fn what_has_no_geometry_is_refused() {
        let run = |router: &WeightMatrix, inputs: &MeanInputs| {
            router_geometry(0, router, inputs, Permutations::new(9, Seed(1))).is_err()
        };
        let input = || Some(vec![1.0, 2.0]);
        assert!(run(&matrix(2, &[1.0, 0.0]), &[input()]), "one expert");
        assert!(run(&matrix(2, &[1.0, 0.0, 0.0, 0.0]), &[input(), input()]), "a row of zeros");
        assert!(run(&matrix(2, &[1.0, 0.0, 0.0, 1.0]), &[input(), None]), "one expert that was chosen");
        assert!(run(&matrix(2, &[1.0, 0.0, 0.0, 1.0]), &[input()]), "a list too short");
        assert!(!run(&matrix(2, &[1.0, 0.0, 0.0, 1.0]), &[input(), input()]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn a_rotation_and_names_of_experts_do_not_matter(seed in any::<u64>()) {
            let router = gaussian(5, 6, &mut Seed(4).rng());
            let inputs = sent(&router, 3, |_, x| best(&router, x));
            let rotation = random_rotation(6, Seed(seed));
            let turn = |x: &[f64]| (&rotation * nalgebra::DVector::from_column_slice(x)).as_slice().to_vec();
            let mut order: Vec<usize> = (0..5).collect();
            order.shuffle(&mut Seed(seed).rng());
            let row = |row: &usize| turn(&router.row(*row).iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            let turned: Vec<f32> = order.iter().flat_map(row).map(|x| x as f32).collect();
            let moved: Vec<Option<Vec<f64>>> = order.iter().map(|e| inputs[*e].as_ref().map(|x| turn(x))).collect();
            let (own, other) = (run(&router, &inputs, 1), run(&matrix(6, &turned), &moved, 1));
            for pick in PICKS {
                prop_assert!((pick(&own).observed - pick(&other).observed).abs() < 1e-5);
            }
        }
    }
}

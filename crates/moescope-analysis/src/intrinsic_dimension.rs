//! Intrinsic dimension: how many numbers it takes to say where a vector lies among its neighbours.

mod gives;

use moescope_base::{Column, Figure, FigureKind, Seed, Table};
use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::instrument::{
    About, Finding, Group, Instrument, LEVEL, Material, Promise, Property, Reading, Rule,
};
use crate::matrix::{Features, normal, product, product_by_column};
use crate::statistics::{LEAST_UNITS, holm, jackknife, mean, standard_deviation, student};
use crate::{AnalysisError, check};

/// The name in errors.
const METHOD: &str = "intrinsic dimension";
/// Vectors of each layer that are looked at; distances grow with their square.
const SAMPLE: usize = 1000;
/// Share of the largest ratios that is left out, as the source does: they are the least reliable.
const DISCARDED: f64 = 0.1;
/// Vectors nearer to each other than this share of their size are the same but for rounding.
const ROUNDING: f64 = 1e-6;
/// Groups of documents that are left out in turn, at most.
const GROUPS: usize = 10;
/// Clouds of the null: enough to know how far their estimates lie apart.
const CLOUDS: usize = 19;

/// Dimension of the surface that vectors lie on, from the distances to the two nearest neighbours of each.
///
/// - **Unit and range:** dimensions, above 0; at most about the width of the vectors.
/// - **Null:** as many vectors of the same covariance without any other structure (Gaussian), which fill a linear subspace; nineteen clouds of them
///   tell how far such estimates lie apart. Below them, the vectors lie on something curved or clustered.
/// - **Does not show:** which directions; and it is blind to structure at scales other than that of nearest neighbours. More than
///   about twenty dimensions are underestimated with a thousand vectors, in the null as well.
/// - **Source:** TwoNN, Facco et al. 2017: maximum likelihood of a Pareto distribution of the ratios of the two distances, without the
///   largest tenth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntrinsicDimension {
    /// The estimate.
    pub dimension: f64,
    /// Lower end of the 95 % interval, from leaving out groups of documents in turn; NaN where there are fewer than four.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Vectors with a neighbour at a distance above zero.
    pub vectors: usize,
}

/// Estimates the intrinsic dimension of vectors of these documents; equal vectors count once, and so do those that rounding alone tells apart: which they are
/// depends on the basis.
///
/// # Errors
/// If there are fewer than ten different vectors.
pub fn intrinsic_dimension(
    features: &Features,
    documents: &[u32],
) -> Result<IntrinsicDimension, AnalysisError> {
    check::same_length(METHOD, "list of documents", documents.len(), features.tokens())?;
    let distances = Distances::between(features);
    distances.of_documents(&distances.distinct((0..features.tokens()).collect()), documents)
}

/// Squares of the distances of all vectors from each other, worked out once: what is left out of them changes none.
struct Distances {
    vectors: usize,
    squares: Vec<f64>,
    /// Vectors nearer than this are the same but for rounding.
    least: f64,
}

impl Distances {
    fn between(features: &Features) -> Distances {
        let vectors = features.tokens();
        let sizes: f64 = (0..vectors).map(|row| features.row(row).iter().map(|x| x * x).sum::<f64>()).sum();
        let mut squares = vec![0.0; vectors * vectors];
        squares.par_chunks_mut(vectors.max(1)).enumerate().for_each(|(row, squares)| {
            for (other, to) in squares.iter_mut().enumerate() {
                *to = square(features.row(row), features.row(other));
            }
        });
        Distances { vectors, squares, least: ROUNDING.powi(2) * sizes / vectors.max(1) as f64 }
    }

    fn square(&self, a: usize, b: usize) -> f64 {
        self.squares[a * self.vectors + b]
    }

    /// Those of some vectors that no earlier one of them equals up to rounding, in their order, which does not depend on the basis.
    fn distinct(&self, some: Vec<usize>) -> Vec<usize> {
        let first = |at: &usize| some[..*at].iter().all(|other| self.square(some[*at], *other) > self.least);
        (0..some.len()).into_par_iter().filter(first).map(|at| some[at]).collect()
    }

    /// The estimate of vectors that all differ, and how many of them have two neighbours.
    fn estimate(&self, rows: &[usize]) -> Result<(f64, usize), AnalysisError> {
        check::at_least(METHOD, "different vectors", rows.len(), 10)?;
        let logs = rows.par_iter().map(|row| {
            log_ratio(rows.iter().filter(|other| *other != row).map(|other| self.square(*row, *other)))
        });
        of_logs(logs.collect())
    }

    /// The estimate with an interval over documents, of which each vector has one.
    fn of_documents(&self, rows: &[usize], documents: &[u32]) -> Result<IntrinsicDimension, AnalysisError> {
        let (dimension, vectors) = self.estimate(rows)?;
        let mut names = documents.to_vec();
        names.sort_unstable();
        names.dedup();
        let groups = names.len().min(GROUPS);
        let group = |document: &u32| names.binary_search(document).map_or(0, |at| at * groups / names.len());
        let without = |left_out: usize| {
            let others = (0..documents.len()).filter(|row| group(&documents[*row]) != left_out).collect();
            self.estimate(&self.distinct(others)).map_or(f64::NAN, |(dimension, _)| dimension)
        };
        let (mut low, mut high) = (f64::NAN, f64::NAN);
        if names.len() >= LEAST_UNITS {
            let without: Vec<f64> = (0..groups).map(without).collect();
            let found = jackknife(dimension, &without, names.len());
            (low, high) = (found.low, found.high);
        }
        Ok(IntrinsicDimension { dimension, low, high, vectors })
    }
}

/// Square of the distance of two vectors.
fn square(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Maximum likelihood where the largest values are only known to be as large as the last one kept.
fn of_logs(mut logs: Vec<f64>) -> Result<(f64, usize), AnalysisError> {
    logs.retain(|log| log.is_finite());
    check::at_least(METHOD, "vectors with two neighbours", logs.len(), 10)?;
    logs.sort_by(f64::total_cmp);
    let kept = ((1.0 - DISCARDED) * logs.len() as f64).floor().max(1.0) as usize;
    let censored = (logs.len() - kept) as f64;
    let sum = logs[..kept].iter().sum::<f64>() + censored * logs[kept - 1];
    check::in_range(METHOD, "sum of the logarithms of ratios", sum, sum > 0.0, "above 0")?;
    Ok((kept as f64 / sum, logs.len()))
}

/// Logarithm of the ratio of the distances to the second and the first neighbour, from the squares of the distances to all others.
fn log_ratio(squares: impl Iterator<Item = f64>) -> f64 {
    let (mut first, mut second) = (f64::INFINITY, f64::INFINITY);
    for square in squares {
        if square < first {
            (first, second) = (square, first);
        } else if square < second {
            second = square;
        }
    }
    (second / first).ln() / 2.0
}

/// The estimate of as many Gaussian vectors with the covariance of the given ones, which are centred.
fn of_cloud(centred: &Features, seed: Seed) -> Result<f64, AnalysisError> {
    // A random mixture of centred vectors has their covariance, in whatever subspace they lie.
    let tokens = centred.tokens();
    let mut mixtures = DMatrix::zeros(tokens, tokens);
    mixtures.as_mut_slice().par_chunks_mut(tokens).enumerate().for_each(|(token, column)| {
        let mut rng = seed.index(token as u64).rng();
        column.iter_mut().for_each(|factor| *factor = normal(&mut rng));
    });
    let cloud = product(centred.transposed(), &mixtures);
    // Distances from products of the vectors: a cloud has no outlier whose size would drown them.
    let products = product_by_column(&cloud, &cloud);
    let square = |a: usize, b: usize| (products[(a, a)] + products[(b, b)] - 2.0 * products[(a, b)]).max(0.0);
    let logs = (0..tokens)
        .into_par_iter()
        .map(|row| log_ratio((0..tokens).filter(|other| *other != row).map(|other| square(row, other))));
    Ok(of_logs(logs.collect())?.0)
}

/// What a linear subspace would give: Gaussian vectors of the same covariance, as many as there are different ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearSubspace {
    /// Mean over clouds of such vectors; dimensions.
    pub dimension: f64,
    /// Probability that one more cloud would have so few dimensions as were found, or fewer: Student's t of the logarithm, with the spread over the
    /// clouds.
    pub p_value: f64,
}

/// The estimate of one layer beside its null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerDimension {
    /// Block.
    pub layer: usize,
    /// Of the residual stream after the block.
    pub found: IntrinsicDimension,
    /// Of Gaussian vectors of the same covariance.
    pub null: LinearSubspace,
    /// Width of the vectors.
    pub width: usize,
}

/// Estimate and null of the vectors of one layer.
///
/// # Errors
/// As [`intrinsic_dimension`].
pub fn of_layer(
    layer: usize,
    features: &Features,
    documents: &[u32],
    seed: Seed,
) -> Result<LayerDimension, AnalysisError> {
    check::same_length(METHOD, "list of documents", documents.len(), features.tokens())?;
    let distances = Distances::between(features);
    let distinct = distances.distinct((0..features.tokens()).collect());
    let found = distances.of_documents(&distinct, documents)?;
    let centred = features.select(&distinct).centred();
    let cloud = |draw: usize| Ok(of_cloud(&centred, seed.index(draw as u64))?.ln());
    let clouds: Vec<f64> = (0..CLOUDS).map(cloud).collect::<Result<_, AnalysisError>>()?;
    // The one that was found is one more draw, if the null is true.
    let spread = standard_deviation(&clouds) * (1.0 + 1.0 / CLOUDS as f64).sqrt();
    let less = (mean(&clouds) - found.dimension.ln()) / spread;
    let p_value = student::upper_tail(less, (CLOUDS - 1) as f64);
    let null = LinearSubspace { dimension: mean(&clouds).exp(), p_value };
    Ok(LayerDimension { layer, found, null, width: features.width() })
}

/// In how many of these fewer dimensions were found than in a linear subspace, with Holm's correction over them.
pub(crate) fn curved(found: &[LayerDimension]) -> usize {
    let p: Vec<f64> = found.iter().map(|one| one.null.p_value).collect();
    holm(&p).into_iter().filter(|p| *p <= LEVEL).count()
}

/// What the interval of a dimension is.
pub(crate) const LEFT_OUT: &str = "95 %, at most ten groups of documents left out in turn, Student's t";

/// What the p-value of a dimension is for.
pub(crate) const FEWER: &str = "of as few dimensions in 19 clouds of Gaussian vectors of the same covariance; Student's t of the logarithm";

/// One row for each layer.
///
/// # Errors
/// If the columns make no table.
pub fn table(layers: &[LayerDimension]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&LayerDimension) -> f64| layers.iter().map(pick).collect::<Vec<f64>>();
    let key = |pick: fn(&LayerDimension) -> usize| layers.iter().map(|layer| pick(layer) as i64).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "after this block, counted from 0", key(|l| l.layer)),
        Column::estimate(
            "dimension",
            "dimensions",
            "intrinsic dimension of the residual stream",
            of(|l| l.found.dimension),
        ),
    ];
    columns.extend(Column::interval(
        "dimension",
        "dimensions",
        LEFT_OUT,
        of(|l| l.found.low),
        of(|l| l.found.high),
    ));
    columns.push(Column::observations("dimension", "different vectors", key(|l| l.found.vectors)));
    columns.push(Column::null(
        "dimension",
        "dimensions",
        "Gaussian vectors of the same covariance",
        of(|l| l.null.dimension),
    ));
    columns.push(Column::p_value("dimension", FEWER, of(|l| l.null.p_value)));
    columns.push(Column::count("width", "dimensions", "width of the residual stream", key(|l| l.width)));
    let method = "Two nearest neighbours of each vector (TwoNN), without the largest tenth of the ratios. Does not show which directions; nor that \
                  anything was learned: vectors of one word lie together in random networks as well. Large dimensions are underestimated, in the null too.";
    Ok(Table::new(
        "intrinsic_dimension",
        "How many dimensions the residual stream fills locally",
        method,
        columns,
    )?)
}

/// The instrument `intrinsic-dimension`.
pub struct TwoNeighbours;

const CURVED: Reading = Reading {
    says: "the stream has fewer dimensions than its covariance",
    table: "intrinsic_dimension",
    rows: &[("layer", "0")],
    value: "dimension",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] =
    &[Promise::finds(Property::CurvedStream, CURVED), Promise::is_silent(Property::FlatStream, CURVED)];

impl Instrument for TwoNeighbours {
    fn about(&self) -> About {
        About {
            name: "intrinsic-dimension",
            group: Group::Representation,
            question: "On a surface of how many dimensions do the vectors of each layer lie?",
            null: "Gaussian vectors of the same covariance",
            does_not_show: "which directions, nor that anything was learned: vectors of one word lie together in random networks as well; dimensions above about twenty are underestimated",
            source: "TwoNN, Facco et al. 2017",
            passes: "one for each batch of an excerpt",
            routed: false,
            gives: gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let stream = material.residual_stream(SAMPLE)?;
        let seed = material.seed.child("gaussian");
        let one = |(layer, features): (usize, &Features)| {
            of_layer(layer, features, &stream.documents, seed.index(layer as u64))
        };
        let found: Vec<LayerDimension> =
            stream.layers.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        let figure = Figure {
            id: "intrinsic_dimension".into(),
            title: finding(&found),
            caption: "Residual stream after each block, with 95 % intervals over documents; beside it Gaussian vectors of the same covariance.".into(),
            table: "intrinsic_dimension".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "dimension".into(), series: None },
        };
        Ok(Finding { tables: vec![table(&found)?], figures: vec![figure] })
    }
}

/// Range over the layers in words.
fn finding(layers: &[LayerDimension]) -> String {
    let dimensions = || layers.iter().map(|layer| layer.found.dimension);
    let (low, high) = (dimensions().fold(f64::INFINITY, f64::min), dimensions().fold(0.0, f64::max));
    let width = layers.first().map_or(0, |layer| layer.width);
    let curved = curved(layers);
    format!(
        "Locally the residual stream fills {low:.1} to {high:.1} of {width} dimensions; in {curved} of {} fewer than a linear subspace of the same covariance",
        crate::wording::counted(layers.len(), "layer", "layers")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::random_rotation;
    use rand::RngExt;

    /// Points of a cube of some dimensions, in a space of `width`.
    fn cube(points: usize, dimensions: usize, width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        let mut values = vec![0.0; points * width];
        for point in values.chunks_mut(width) {
            point[..dimensions].iter_mut().for_each(|x| *x = rng.random());
        }
        Features::new(width, &values).unwrap()
    }

    #[test]
    fn a_hand_worked_ratio() {
        // Neighbours at distances 1 and 3, and one far away.
        assert!((log_ratio([9.0, 100.0, 1.0].into_iter()) - 3f64.ln()).abs() < 1e-12);
    }

    /// Five vectors of each document, one document after the other.
    fn each(vectors: usize) -> Vec<u32> {
        (0..vectors as u32).map(|vector| vector / 5).collect()
    }

    fn alone(features: &Features) -> IntrinsicDimension {
        intrinsic_dimension(features, &each(features.tokens())).unwrap()
    }

    #[test]
    fn the_dimension_of_a_cube_is_found_and_does_not_turn() {
        for dimensions in [1, 2, 5] {
            let features = cube(1000, dimensions, 8, 3);
            let found = alone(&features);
            let truth = dimensions as f64;
            assert!(found.low < truth * 1.02 && truth * 0.9 < found.high, "{dimensions}: {found:?}");
            let turned = features.rotate(&random_rotation(8, Seed(5))).unwrap();
            let turned = alone(&turned);
            assert!((turned.dimension - found.dimension).abs() < 1e-6 * truth);
        }
    }

    #[test]
    fn a_curve_has_fewer_dimensions_than_its_covariance_and_a_gaussian_has_not() {
        let mut rng = Seed(9).rng();
        let curve: Vec<f64> = (0..600)
            .flat_map(|_| {
                let t: f64 = rng.random_range(0.0..9.0);
                [t.sin(), t.cos(), (2.0 * t).sin(), t / 3.0]
            })
            .collect();
        let found = of_layer(0, &Features::new(4, &curve).unwrap(), &each(600), Seed(1)).unwrap();
        assert!(found.found.high < 1.3 && found.null.dimension > 2.5, "{found:?}");
        assert!(found.null.p_value < 1e-6, "{found:?}");
    }

    #[test]
    fn gaussian_vectors_are_called_curved_at_the_stated_rate() {
        // Each comes four times, as a position does in four documents, and counts once.
        let called = |copies: usize| {
            let curved = |seed: &u64| {
                let mut rng = Seed(*seed).child("gauss").rng();
                let values: Vec<f64> = (0..4 * 100).map(|_| normal(&mut rng)).collect();
                let features = Features::new(4, &values.repeat(copies)).unwrap();
                of_layer(0, &features, &each(features.tokens()), Seed(*seed)).unwrap().null.p_value <= 0.05
            };
            (0..200).filter(curved).count()
        };
        // Binomial of 200 at one in twenty: above 19 in less than one of a hundred, below 2 as seldom.
        let (once, repeated) = (called(1), called(4));
        assert!((2..20).contains(&once) && (2..20).contains(&repeated), "{once} and {repeated} of 200");
    }

    #[test]
    fn repeated_vectors_count_once_and_too_few_are_refused() {
        let once = cube(100, 2, 3, 4);
        let twice: Vec<f64> = (0..200).flat_map(|i| once.row(i % 100).to_vec()).collect();
        let twice = Features::new(3, &twice).unwrap();
        let (own, repeated) = (alone(&once), alone(&twice));
        assert_eq!((own.dimension, own.vectors), (repeated.dimension, repeated.vectors));
        // Each vector is in two documents: without either, all are still there.
        assert_eq!((repeated.low, repeated.high), (repeated.dimension, repeated.dimension));
        assert!(own.low < own.dimension);
        // So do vectors that rounding tells apart.
        let nearly: Vec<f64> = (0..200)
            .flat_map(|i| once.row(i % 100).iter().map(move |x| x * (1.0 + 1e-8 * (i / 100) as f64)))
            .collect();
        let nearly = alone(&Features::new(3, &nearly).unwrap());
        assert_eq!(nearly.vectors, 100);
        assert!((nearly.dimension - alone(&once).dimension).abs() < 1e-4);
        let few = intrinsic_dimension(&once, &[1; 100]).unwrap();
        assert!(few.low.is_nan(), "one document tells no interval");
        assert_eq!(few.dimension, own.dimension);
        assert!(intrinsic_dimension(&cube(5, 2, 3, 4), &each(5)).is_err());
    }
}

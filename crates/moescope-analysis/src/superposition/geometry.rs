//! How features share dimensions.

use moescope_base::Seed;
use nalgebra::DMatrix;

use super::directions::PARTS;
use crate::matrix::{normal, product as double_product};

/// Lengths and products of directions, freed of the noise of their estimates.
///
/// - **Shape:** `square[feature]`, `products[feature, feature]`, `lengths[feature, feature]`.
/// - **Unit:** squares of that of the vectors, and fourth powers. Where there is nothing but noise all are 0 on average, and may be negative.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Geometry {
    /// Squared length of each direction.
    pub(super) squares: Vec<f64>,
    /// Squared product of each two.
    products: DMatrix<f64>,
    /// Product of the squared lengths of each two.
    lengths: DMatrix<f64>,
}

/// How features share dimensions, on average over some of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sharing {
    /// Sum of squared cosines with all other features: 0 where all are orthogonal.
    pub(super) interference: f64,
    /// Share of a dimension that a feature has to itself, from 0 to 1.
    pub(super) dimensionality: f64,
}

/// Squared length of each direction alone, as in [`Geometry::new`].
pub(super) fn squares(directions: &DMatrix<f64>) -> Vec<f64> {
    let features = directions.nrows() / PARTS;
    // Columns are apart in memory; of the transposed, one direction is one column.
    let turned = directions.transpose();
    let square = |feature: usize| {
        let of = |part: usize| turned.column(part * features + feature);
        let pairs = (0..PARTS).flat_map(|p| (p + 1..PARTS).map(move |q| (p, q)));
        let products: Vec<f64> = pairs.map(|(p, q)| of(p).dot(&of(q))).collect();
        products.iter().sum::<f64>() / products.len() as f64
    };
    (0..features).map(square).collect()
}

impl Geometry {
    /// Of directions estimated in every part: `[part · feature, coordinate]`. No product is made within a part, so that errors of estimates
    /// do not meet themselves.
    pub(super) fn new(directions: &DMatrix<f64>) -> Geometry {
        let features = directions.nrows() / PARTS;
        let gram = double_product(directions, &directions.transpose());
        let at = |p: usize, i: usize, q: usize, j: usize| gram[(p * features + i, q * features + j)];
        let pairs: Vec<(usize, usize)> =
            (0..PARTS).flat_map(|p| (p + 1..PARTS).map(move |q| (p, q))).collect();
        let square = |i: usize| pairs.iter().map(|(p, q)| at(*p, i, *q, i)).sum::<f64>() / pairs.len() as f64;
        let both = |p: usize, q: usize, i: usize, j: usize| (at(p, i, q, j) + at(q, i, p, j)) / 2.0;
        // The three ways in which four parts make two pairs.
        let split = [[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2]];
        let product = |i: usize, j: usize| {
            split.iter().map(|[p, q, r, s]| both(*p, *q, i, j) * both(*r, *s, i, j)).sum::<f64>() / 3.0
        };
        let length = |i: usize, j: usize| {
            let pair = |[p, q, r, s]: &[usize; 4]| {
                at(*p, i, *q, i) * at(*r, j, *s, j) + at(*r, i, *s, i) * at(*p, j, *q, j)
            };
            split.iter().map(pair).sum::<f64>() / 6.0
        };
        Geometry {
            squares: (0..features).map(square).collect(),
            products: DMatrix::from_fn(features, features, product),
            lengths: DMatrix::from_fn(features, features, length),
        }
    }

    /// The same of directions that are known: `[feature, coordinate]`.
    pub(super) fn known(directions: &DMatrix<f64>) -> Geometry {
        let gram = directions * directions.transpose();
        let squares: Vec<f64> = gram.diagonal().iter().copied().collect();
        let lengths = DMatrix::from_fn(squares.len(), squares.len(), |i, j| squares[i] * squares[j]);
        Geometry { squares, products: gram.map(|x| x * x), lengths }
    }

    /// The mean of several, each entry over those in which it is a number: of deals of the documents into parts, which chance decides.
    ///
    /// Sums are averaged before ratios are made of them. A ratio of one deal may have a small denominator, and then stands for nothing.
    pub(super) fn mean(all: &[Geometry]) -> Geometry {
        let over = |of: &dyn Fn(&Geometry) -> f64| {
            let known: Vec<f64> = all.iter().map(of).filter(|x| x.is_finite()).collect();
            known.iter().sum::<f64>() / known.len() as f64
        };
        let features = all.first().map_or(0, |one| one.squares.len());
        let matrix = |of: fn(&Geometry) -> &DMatrix<f64>| {
            DMatrix::from_fn(features, features, |i, j| over(&|one| of(one)[(i, j)]))
        };
        Geometry {
            squares: (0..features).map(|i| over(&|one| one.squares[i])).collect(),
            products: matrix(|one| &one.products),
            lengths: matrix(|one| &one.lengths),
        }
    }

    /// How these features share dimensions; NaN where fewer than two are known, or they have no length.
    ///
    /// Both numbers are ratios of sums over features, in which a pair counts as much as it is long: the cosine of a direction that is hardly
    /// longer than the error of its estimate says nothing, and a mean over single cosines would be made of these.
    ///
    /// Source: Elhage et al. 2022, interference Σ (ŵᵢ·ŵⱼ)² over j ≠ i, here of directions of length 1, and dimensionality
    /// ‖wᵢ‖² / Σ (ŵᵢ·wⱼ)² over all j.
    pub(super) fn sharing(&self, features: &[usize]) -> Sharing {
        // A resample may lack a feature; the others stand for it.
        let left: Vec<usize> = features.iter().copied().filter(|i| self.squares[*i].is_finite()).collect();
        let pairs = || left.iter().flat_map(|i| left.iter().filter(move |j| *j != i).map(move |j| (*i, *j)));
        let (shared, lengths) = pairs().fold((0.0, 0.0), |(shared, lengths), at| {
            (shared + self.products[at], lengths + self.lengths[at])
        });
        if left.len() < 2 || lengths <= 0.0 {
            return Sharing { interference: f64::NAN, dimensionality: f64::NAN };
        }
        let others = (features.len() - 1) as f64;
        let standing_for = others / (left.len() - 1) as f64;
        let own: f64 = left.iter().map(|i| self.products[(*i, *i)]).sum();
        // Noise may make a sum of squares negative.
        let dimensionality = (own / (own + standing_for * shared.max(0.0))).clamp(0.0, 1.0);
        Sharing { interference: others * shared / lengths, dimensionality }
    }

    /// The same for random directions of the same lengths in so many dimensions, on average over some draws.
    pub(super) fn random(&self, features: &[usize], width: usize, draws: usize, seed: Seed) -> Sharing {
        let draw = |draw: usize| {
            let mut rng = seed.index(draw as u64).rng();
            let mut directions = DMatrix::from_fn(features.len(), width, |_, _| normal(&mut rng));
            for (mut row, feature) in directions.row_iter_mut().zip(features) {
                let scale = self.squares[*feature].max(0.0).sqrt() / row.norm();
                row *= scale;
            }
            let all: Vec<usize> = (0..features.len()).collect();
            Geometry::known(&directions).sharing(&all)
        };
        let found: Vec<Sharing> = (0..draws).map(draw).collect();
        let over = |of: fn(&Sharing) -> f64| found.iter().map(of).sum::<f64>() / draws as f64;
        Sharing { interference: over(|s| s.interference), dimensionality: over(|s| s.dimensionality) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::random_rotation;

    fn rows(rows: usize, width: usize, values: &[f64]) -> DMatrix<f64> {
        DMatrix::from_row_slice(rows, width, values)
    }

    /// The same directions in every part, each with errors of this size.
    fn estimated(directions: &DMatrix<f64>, error: f64, seed: u64) -> DMatrix<f64> {
        let mut rng = Seed(seed).child("errors").rng();
        let (features, width) = directions.shape();
        DMatrix::from_fn(PARTS * features, width, |row, at| {
            directions[(row % features, at)] + error * normal(&mut rng)
        })
    }

    #[test]
    fn three_directions_in_a_plane_by_hand() {
        let half = 3f64.sqrt() / 2.0;
        let star = rows(3, 2, &[1.0, 0.0, -0.5, half, -0.5, -half]);
        // Cosines of −1/2 with two others; each has two thirds of a dimension, as in the paper.
        for geometry in [Geometry::known(&star), Geometry::new(&estimated(&star, 0.0, 1))] {
            let found = geometry.sharing(&[0, 1, 2]);
            assert!((found.interference - 0.5).abs() < 1e-12, "{found:?}");
            assert!((found.dimensionality - 2.0 / 3.0).abs() < 1e-12, "{found:?}");
        }
        let noisy = estimated(&star, 0.4, 2);
        let alone = squares(&noisy).into_iter().zip(Geometry::new(&noisy).squares);
        assert!(
            alone.into_iter().all(|(a, b)| (a - b).abs() < 1e-12),
            "lengths alone are those of the whole"
        );
        // Two opposite ones share one dimension, and the third has its own.
        let pair = Geometry::known(&rows(3, 2, &[1.0, 0.0, -1.0, 0.0, 0.0, 1.0]));
        assert!((pair.sharing(&[0, 1]).dimensionality - 0.5).abs() < 1e-12);
        assert!((pair.sharing(&[0, 1, 2]).dimensionality - 3.0 / 5.0).abs() < 1e-12);
        assert_eq!(pair.sharing(&[0, 2]).interference, 0.0);
        // A feature that is not known is left out, and the other two stand for three.
        let lost = Geometry {
            squares: vec![1.0, f64::NAN, 1.0, 1.0],
            products: DMatrix::from_element(4, 4, 0.25),
            lengths: DMatrix::from_element(4, 4, 1.0),
        };
        assert!((lost.sharing(&[0, 1, 2]).interference - 0.5).abs() < 1e-12);
        assert!(lost.sharing(&[0, 1]).interference.is_nan());
    }

    #[test]
    fn errors_of_estimates_make_no_interference() {
        // Orthogonal directions with errors as long as they are: plain cosines would find interference.
        let (features, width) = (8, 40);
        let directions = DMatrix::from_fn(features, width, |i, at| f64::from(u8::from(i == at)));
        let all: Vec<usize> = (0..features).collect();
        let mean = |of: &dyn Fn(u64) -> f64| (0..200).map(of).sum::<f64>() / 200.0;
        let size = 1.0 / (width as f64).sqrt();
        let geometry = |seed| Geometry::new(&estimated(&directions, size, seed));
        let square = mean(&|seed| geometry(seed).squares[0]);
        let product = mean(&|seed| geometry(seed).products[(0, 1)]);
        assert!((square - 1.0).abs() < 0.05 && product.abs() < 0.005, "{square} {product}");
        let naive = mean(&|seed| {
            let estimate = estimated(&directions, size, seed).rows(0, features).into_owned();
            Geometry::known(&estimate).sharing(&all).interference
        });
        assert!(naive > 0.1, "{naive}");
    }

    #[test]
    fn directions_no_longer_than_their_errors_do_not_decide() {
        // Six orthogonal directions, two of which are a fifth as long as the errors: the mean over deals of the errors stays near 0.
        let directions = DMatrix::from_fn(6, 24, |i, at| match (i == at, i < 4) {
            (true, true) => 1.0,
            (true, false) => 0.05,
            _ => 0.0,
        });
        let all: Vec<usize> = (0..6).collect();
        let found: Vec<f64> = (0..100)
            .map(|seed| Geometry::new(&estimated(&directions, 0.05, seed)).sharing(&all).interference)
            .collect();
        let mean = found.iter().sum::<f64>() / 100.0;
        assert!(mean.abs() < 0.02 && found.iter().all(|x| x.abs() < 0.2), "{mean}");
        let both = [0, 1].map(|seed| Geometry::new(&estimated(&directions, 0.05, seed)));
        let between = Geometry::mean(&both).sharing(&all).interference;
        let [first, second] = both.map(|one| one.sharing(&all).interference);
        assert!(between >= first.min(second) - 1e-9 && between <= first.max(second) + 1e-9);
    }

    #[test]
    fn a_rotated_basis_changes_nothing_and_random_directions_are_as_near_as_they_should() {
        let mut rng = Seed(3).rng();
        let directions = DMatrix::from_fn(6 * PARTS, 10, |_, _| normal(&mut rng));
        let turned = &directions * random_rotation(10, Seed(4));
        let all = [0, 1, 2, 3, 4, 5];
        let (plain, turned) = (Geometry::new(&directions), Geometry::new(&turned));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan());
        assert!(plain.squares.iter().zip(&turned.squares).all(|(a, b)| near(*a, *b)));
        assert!(near(plain.sharing(&all).interference, turned.sharing(&all).interference));
        // Squared cosines of random directions are one over the dimensions on average.
        let (products, lengths) = (DMatrix::zeros(6, 6), DMatrix::zeros(6, 6));
        let unit = Geometry { squares: vec![1.0; 6], products, lengths };
        let random = unit.random(&all, 10, 400, Seed(5));
        assert!((random.interference - 0.5).abs() < 0.02, "{random:?}");
        assert!(random.dimensionality > 0.6 && random.dimensionality < 0.72, "{random:?}");
    }
}

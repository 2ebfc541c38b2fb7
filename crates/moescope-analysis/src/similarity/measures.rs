//! Measures of likeness of two representations of the same tokens.

use nalgebra::DMatrix;

use crate::matrix::{Features, product_by_column};
use crate::statistics::midranks;

/// Principal components that carry this share of the variance are compared.
const VARIANCE: f64 = 0.99;
/// Of these at most so many.
const COMPONENTS: usize = 64;

/// A measure of likeness; 1 for representations that differ by a rotation and a scale ([`Measure::Rsa`]: by a scale alone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Unbiased CKA with linear kernels: Kornblith et al. 2019, Nguyen et al. 2021.
    LinearCka,
    /// Unbiased CKA with Gaussian kernels as wide as the median distance: Kornblith et al. 2019.
    RbfCka,
    /// Mean canonical correlation of principal components that carry 99 % of the variance, 64 at most: Raghu et al. 2017.
    Svcca,
    /// The same, each correlation weighted by how much of the first representation it accounts for: Morcos et al. 2018.
    Pwcca,
    /// Nuclear norm of the products of the two, of length one each: orthogonal Procrustes, Ding et al. 2021.
    Procrustes,
    /// Rank correlation of the distances (one minus Pearson's correlation) between tokens: Kriegeskorte et al. 2008.
    Rsa,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 6] = [
        Measure::LinearCka,
        Measure::RbfCka,
        Measure::Svcca,
        Measure::Pwcca,
        Measure::Procrustes,
        Measure::Rsa,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Measure::LinearCka => "linear CKA",
            Measure::RbfCka => "RBF CKA",
            Measure::Svcca => "SVCCA",
            Measure::Pwcca => "PWCCA",
            Measure::Procrustes => "Procrustes",
            Measure::Rsa => "RSA",
        }
    }
}

/// A representation with what the measures need of it worked out once.
pub struct Prepared {
    /// Linear kernel without its diagonal: `[token, token]`.
    linear: DMatrix<f64>,
    /// Gaussian kernel without its diagonal.
    gaussian: DMatrix<f64>,
    /// Ranks of the distances between tokens, minus their mean; 0 on the diagonal.
    ranks: DMatrix<f64>,
    /// Principal components of length one: `[token, component]`.
    scores: DMatrix<f64>,
    /// Their lengths: `[component]`.
    lengths: Vec<f64>,
    /// Products of these with the coordinates of the representation: `[component, coordinate]`.
    loadings: DMatrix<f64>,
}

impl Prepared {
    /// Works out what the measures need of `features[token, coordinate]`.
    pub fn new(features: &Features) -> Prepared {
        let centred = features.centred();
        let x = centred.transposed(); // [coordinate, token]
        let gram = product_by_column(x, x);
        let (scores, lengths) = components(&gram);
        let loadings = scores.tr_mul(&x.transpose());
        Prepared {
            gaussian: gaussian(&gram),
            ranks: ranks(features),
            scores,
            lengths,
            loadings,
            linear: without_diagonal(gram),
        }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.linear.nrows()
    }

    /// Likeness to another representation whose token `order[t]` stands beside token `t` of this one.
    ///
    /// NaN where a representation does not vary.
    pub fn compare(&self, other: &Prepared, order: &[usize], measure: Measure) -> f64 {
        match measure {
            Measure::LinearCka => aligned(&self.linear, &other.linear, order),
            Measure::RbfCka => aligned(&self.gaussian, &other.gaussian, order),
            Measure::Rsa => {
                let both = product(&self.ranks, &other.ranks, order);
                both / (self.ranks.norm() * other.ranks.norm())
            }
            Measure::Svcca => {
                let correlations = self.common(other, order).singular_values();
                correlations.iter().map(|rho| rho.min(1.0)).sum::<f64>() / correlations.len() as f64
            }
            Measure::Pwcca => self.weighted(other, order),
            Measure::Procrustes => {
                let mut common = self.common(other, order);
                for ((row, column), value) in indexed(&mut common) {
                    *value *= self.lengths[row] * other.lengths[column];
                }
                let length = |of: &[f64]| of.iter().map(|x| x * x).sum::<f64>().sqrt();
                common.singular_values().sum() / (length(&self.lengths) * length(&other.lengths))
            }
        }
    }

    /// As [`compare`](Self::compare) where neither of the two stands first, as of experts, whose order is that of their names: a measure that follows
    /// one of them is the mean of both ways.
    pub fn compare_mutually(&self, other: &Prepared, order: &[usize], measure: Measure) -> f64 {
        if measure != Measure::Pwcca {
            return self.compare(other, order, measure);
        }
        let svd = self.common(other, order).svd(true, true);
        let (u, v) = (svd.u.expect("asked for"), svd.v_t.expect("asked for"));
        let rho = svd.singular_values.as_slice();
        f64::midpoint(by_weight(&u.tr_mul(&self.loadings), rho), by_weight(&(v * &other.loadings), rho))
    }

    /// Products of the components: `[own, other]`.
    fn common(&self, other: &Prepared, order: &[usize]) -> DMatrix<f64> {
        product_by_column(&self.scores, &other.scores.select_rows(order))
    }

    fn weighted(&self, other: &Prepared, order: &[usize]) -> f64 {
        let svd = self.common(other, order).svd(true, false);
        let u = svd.u.expect("asked for");
        by_weight(&u.tr_mul(&self.loadings), svd.singular_values.as_slice())
    }
}

/// Mean of the canonical correlations, each by how much of all coordinates lies along its variate: `along[variate, coordinate]`.
fn by_weight(along: &DMatrix<f64>, correlations: &[f64]) -> f64 {
    let weights: Vec<f64> = along.row_iter().map(|row| row.iter().map(|x| x.abs()).sum()).collect();
    let pairs = weights.iter().zip(correlations);
    pairs.map(|(weight, rho)| weight * rho.min(1.0)).sum::<f64>() / weights.iter().sum::<f64>()
}

fn indexed(matrix: &mut DMatrix<f64>) -> impl Iterator<Item = ((usize, usize), &mut f64)> {
    let rows = matrix.nrows();
    matrix.iter_mut().enumerate().map(move |(at, value)| ((at % rows, at / rows), value))
}

/// Principal components of a kernel, the longest first: of length one, and their lengths.
fn components(gram: &DMatrix<f64>) -> (DMatrix<f64>, Vec<f64>) {
    let eigen = gram.clone().symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
    let mut held = 0.0;
    let kept: Vec<usize> = order
        .into_iter()
        .take(COMPONENTS)
        .take_while(|at| {
            let wanted = held < VARIANCE * total;
            held += eigen.eigenvalues[*at];
            wanted
        })
        .collect();
    let lengths = kept.iter().map(|at| eigen.eigenvalues[*at].max(0.0).sqrt()).collect();
    (eigen.eigenvectors.select_columns(&kept), lengths)
}

fn without_diagonal(mut kernel: DMatrix<f64>) -> DMatrix<f64> {
    kernel.fill_diagonal(0.0);
    kernel
}

/// Gaussian kernel of the distances in a linear one, as wide as their median.
fn gaussian(gram: &DMatrix<f64>) -> DMatrix<f64> {
    let n = gram.nrows();
    let squared = |i: usize, j: usize| (gram[(i, i)] + gram[(j, j)] - 2.0 * gram[(i, j)]).max(0.0);
    let mut all: Vec<f64> =
        (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| squared(i, j)).collect();
    let middle = all.len() / 2;
    let median = *all.select_nth_unstable_by(middle, f64::total_cmp).1;
    without_diagonal(DMatrix::from_fn(n, n, |i, j| (-squared(i, j) / (2.0 * median)).exp()))
}

/// Ranks of one minus Pearson's correlation of the vectors of two tokens, minus the mean rank.
fn ranks(features: &Features) -> DMatrix<f64> {
    let (n, width) = (features.tokens(), features.width() as f64);
    let mut rows: Vec<Vec<f64>> = (0..n).map(|token| features.row(token).to_vec()).collect();
    for row in &mut rows {
        let mean = row.iter().sum::<f64>() / width;
        row.iter_mut().for_each(|x| *x -= mean);
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A vector that is the same in all coordinates correlates with none: its distances are 1.
        row.iter_mut().for_each(|x| *x = if length > 0.0 { *x / length } else { 0.0 });
    }
    let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let distance =
        |(i, j): &(usize, usize)| 1.0 - rows[*i].iter().zip(&rows[*j]).map(|(a, b)| a * b).sum::<f64>();
    let ranked = midranks(&pairs.iter().map(distance).collect::<Vec<f64>>());
    let mean = ranked.iter().sum::<f64>() / ranked.len() as f64;
    let mut matrix = DMatrix::zeros(n, n);
    for ((i, j), rank) in pairs.into_iter().zip(ranked) {
        (matrix[(i, j)], matrix[(j, i)]) = (rank - mean, rank - mean);
    }
    matrix
}

/// Sum of products of the entries, those of the second in another order of tokens.
fn product(first: &DMatrix<f64>, second: &DMatrix<f64>, order: &[usize]) -> f64 {
    let of = |column: usize| {
        let (own, other) = (first.column(column), second.column(order[column]));
        order.iter().enumerate().map(|(row, at)| own[row] * other[*at]).sum::<f64>()
    };
    (0..order.len()).map(of).sum()
}

/// Unbiased HSIC (HSIC₁ of Song et al. 2012) of kernels without their diagonals.
fn hsic(first: &DMatrix<f64>, second: &DMatrix<f64>, order: &[usize]) -> f64 {
    let n = order.len() as f64;
    let (own, other) = (first.row_sum(), second.row_sum());
    let inner: f64 = order.iter().enumerate().map(|(token, at)| own[token] * other[*at]).sum();
    let all = own.sum() * other.sum();
    (product(first, second, order) + all / ((n - 1.0) * (n - 2.0)) - 2.0 * inner / (n - 2.0))
        / (n * (n - 3.0))
}

/// Unbiased CKA of kernels without their diagonals.
fn aligned(first: &DMatrix<f64>, second: &DMatrix<f64>, order: &[usize]) -> f64 {
    let same: Vec<usize> = (0..order.len()).collect();
    hsic(first, second, order) / (hsic(first, first, &same) * hsic(second, second, &same)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::cka;
    use super::*;
    use crate::matrix::{normal, random_rotation};
    use moescope_base::Seed;

    fn noise(tokens: usize, width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    fn all(first: &Features, second: &Features) -> [f64; 6] {
        let (a, b) = (Prepared::new(first), Prepared::new(second));
        let order: Vec<usize> = (0..a.tokens()).collect();
        Measure::ALL.map(|measure| a.compare(&b, &order, measure))
    }

    /// Representations that anybody can write down again.
    fn fixture() -> (Features, Features) {
        let first = |i: usize| (1.3 * i as f64 + 0.2 * (i * i) as f64).sin();
        let second = |i: usize| (0.7 * i as f64 + 0.1).cos() + 0.5 * first(i);
        let of = |f: &dyn Fn(usize) -> f64, width: usize| {
            Features::new(width, &(0..12 * width).map(f).collect::<Vec<f64>>()).unwrap()
        };
        (of(&first, 3), of(&second, 4))
    }

    #[test]
    fn all_agree_with_the_definitions_worked_out_in_numpy() {
        let (first, second) = fixture();
        let wanted = [
            -0.173075257915,
            -0.204333445953,
            0.347192231118,
            0.360221120384,
            0.234208058695,
            0.056507671433,
        ];
        for ((found, wanted), measure) in all(&first, &second).into_iter().zip(wanted).zip(Measure::ALL) {
            assert!((found - wanted).abs() < 1e-8, "{}: {found}, want {wanted}", measure.name());
        }
    }

    #[test]
    fn a_rotation_and_a_scale_change_nothing_where_they_should_not() {
        let first = noise(30, 5, 1);
        let turned = first.rotate(&(3.0 * random_rotation(5, Seed(2)))).unwrap();
        for (found, measure) in all(&first, &turned).into_iter().zip(Measure::ALL) {
            // Correlation distance takes the mean over coordinates off, which a rotation does not keep.
            if measure != Measure::Rsa {
                assert!((found - 1.0).abs() < 1e-9, "{}: {found}", measure.name());
            }
        }
        assert!(all(&first, &first).into_iter().all(|found| (found - 1.0).abs() < 1e-9));
    }

    #[test]
    fn both_ways_are_the_mean_of_each_and_one_way_where_that_is_the_same() {
        let [first, second] = [(5, 1), (3, 2)].map(|(width, seed)| {
            let mut rng = moescope_base::Seed(seed).rng();
            let values: Vec<f64> = (0..40 * width).map(|_| crate::matrix::normal(&mut rng)).collect();
            Prepared::new(&Features::new(width, &values).unwrap())
        });
        // Token t beside token t + 3 is token t + 37 beside token t the other way.
        let order: Vec<usize> = (0..40).map(|token| (token + 3) % 40).collect();
        let back: Vec<usize> = (0..40).map(|token| (token + 37) % 40).collect();
        for measure in Measure::ALL {
            let (there, here) =
                (first.compare(&second, &order, measure), second.compare(&first, &back, measure));
            let mutual = first.compare_mutually(&second, &order, measure);
            assert!((mutual - f64::midpoint(there, here)).abs() < 1e-9, "{measure:?}");
            assert_eq!((there - here).abs() > 1e-6, measure == Measure::Pwcca, "{measure:?}");
        }
    }

    #[test]
    fn kernels_give_what_features_give() {
        let (first, second) = (noise(20, 4, 3), noise(20, 6, 4));
        assert!((all(&first, &second)[0] - cka(&first, &second).unwrap()).abs() < 1e-10);
    }

    #[test]
    fn a_planted_likeness_stands_above_shuffled_tokens_in_every_measure() {
        let first = noise(60, 4, 5);
        let other = noise(60, 4, 6);
        let values: Vec<f64> = (0..60)
            .flat_map(|t| (0..4).map(|c| first.row(t)[c] + 0.3 * other.row(t)[c]).collect::<Vec<_>>())
            .collect();
        let near = Features::new(4, &values).unwrap();
        let (a, b) = (Prepared::new(&first), Prepared::new(&near));
        let same: Vec<usize> = (0..60).collect();
        let shifted: Vec<usize> = (0..60).map(|t| (t + 17) % 60).collect();
        for measure in Measure::ALL {
            let (found, null) = (a.compare(&b, &same, measure), a.compare(&b, &shifted, measure));
            assert!(found > 0.6 && found > null + 0.2, "{}: {found} {null}", measure.name());
        }
    }
}

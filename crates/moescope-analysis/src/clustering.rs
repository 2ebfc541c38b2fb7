//! Clusters of vectors by k-means: a plain baseline to hold finer claims against.
//!
//! Centres are drawn as k-means++ draws them (Arthur and Vassilvitskii 2007): each next one among the rows with a probability in proportion to
//! the squared distance from the centres so far. Then rows go to the nearest centre and centres to the mean of their rows, in turn, until
//! nothing moves (Lloyd 1982). Everything follows from the seed: rows are assigned in parallel, and sums are taken in the order of rows.

use moescope_base::Seed;
use rand::RngExt;
use rayon::prelude::*;

use crate::matrix::{Features, product_by_column};
use crate::{AnalysisError, check};

/// Rounds after which the centres stay where they are.
const ROUNDS: usize = 50;

/// Centres, and the cluster of each row that they were learned from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clusters {
    /// One row for each cluster: `centres[cluster, coordinate]`.
    centres: Features,
    /// Cluster of each row, below the number of clusters.
    pub(crate) assigned: Vec<u32>,
}

impl Clusters {
    /// Number of clusters: as many as were wanted, or as many different rows as there are.
    pub(crate) fn count(&self) -> usize {
        self.centres.tokens()
    }

    /// The cluster whose centre is nearest to each row; of equals the first.
    ///
    /// - **Shape:** as many numbers as rows, each below the number of clusters.
    pub(crate) fn nearest(&self, rows: &Features) -> Vec<u32> {
        assign(rows, &self.centres)
    }
}

/// Sorts rows into at most `wanted` clusters.
///
/// # Errors
/// If no cluster is wanted.
pub(crate) fn k_means(rows: &Features, wanted: usize, seed: Seed) -> Result<Clusters, AnalysisError> {
    check::at_least("k-means", "clusters", wanted, 1)?;
    let mut centres = first_centres(rows, wanted, seed);
    let mut assigned = assign(rows, &centres);
    for _ in 0..ROUNDS {
        centres = means(rows, &assigned, &centres)?;
        let next = assign(rows, &centres);
        if std::mem::replace(&mut assigned, next) == assigned {
            break;
        }
    }
    Ok(Clusters { centres, assigned })
}

/// Rows that are far from each other, as k-means++ draws them; fewer than wanted where no more rows differ.
fn first_centres(rows: &Features, wanted: usize, seed: Seed) -> Features {
    let mut rng = seed.child("centres").rng();
    let mut drawn = vec![rng.random_range(0..rows.tokens())];
    let mut distances = vec![f64::INFINITY; rows.tokens()];
    while drawn.len() < wanted {
        let last = rows.row(drawn[drawn.len() - 1]);
        let nearer =
            |(row, known): (usize, &mut f64)| *known = known.min(squared_distance(rows.row(row), last));
        distances.par_iter_mut().enumerate().for_each(nearer);
        let mut left = rng.random::<f64>() * distances.iter().sum::<f64>();
        let passed = |distance: &f64| {
            left -= distance;
            *distance > 0.0 && left <= 0.0
        };
        // Rounding may leave a little over; then the last row that differs is meant.
        let chosen = distances.iter().position(passed);
        match chosen.or_else(|| distances.iter().rposition(|distance| *distance > 0.0)) {
            Some(row) => drawn.push(row),
            None => break,
        }
    }
    rows.select(&drawn)
}

/// Rows whose products with all centres are in memory at a time.
const ROWS_AT_ONCE: usize = 4096;

/// The nearest centre of each row; of equals the first.
///
/// `|row - centre|²` is `|row|² - 2 row · centre + |centre|²`, of which the first part decides nothing and the second is a product of matrices.
fn assign(rows: &Features, centres: &Features) -> Vec<u32> {
    let square = |centre: usize| centres.row(centre).iter().map(|x| x * x).sum::<f64>();
    let squares: Vec<f64> = (0..centres.tokens()).map(square).collect();
    let nearest = |products: &[f64]| {
        let distances = products.iter().zip(&squares).map(|(product, square)| square - 2.0 * product);
        let nearer = |best: (u32, f64), other: (u32, f64)| if other.1 < best.1 { other } else { best };
        (0..).zip(distances).fold((0, f64::INFINITY), nearer).0
    };
    let mut assigned = Vec::with_capacity(rows.tokens());
    for first in (0..rows.tokens()).step_by(ROWS_AT_ONCE) {
        let count = ROWS_AT_ONCE.min(rows.tokens() - first);
        let some = rows.transposed().columns(first, count).into_owned();
        let products = product_by_column(centres.transposed(), &some); // [centre, row]
        assigned.par_extend(products.as_slice().par_chunks_exact(centres.tokens()).map(nearest));
    }
    assigned
}

/// Means of the rows of each cluster; a cluster without rows keeps its centre.
fn means(rows: &Features, assigned: &[u32], centres: &Features) -> Result<Features, AnalysisError> {
    let width = rows.width();
    let mut sums = vec![0.0; centres.tokens() * width];
    let mut counts = vec![0.0; centres.tokens()];
    for (row, cluster) in assigned.iter().enumerate() {
        let cluster = *cluster as usize;
        counts[cluster] += 1.0;
        let sum = &mut sums[cluster * width..(cluster + 1) * width];
        sum.iter_mut().zip(rows.row(row)).for_each(|(sum, x)| *sum += x);
    }
    for (cluster, sum) in sums.chunks_exact_mut(width).enumerate() {
        match counts[cluster] > 0.0 {
            true => sum.iter_mut().for_each(|x| *x /= counts[cluster]),
            false => sum.copy_from_slice(centres.row(cluster)),
        }
    }
    Features::new(width, &sums)
}

fn squared_distance(first: &[f64], second: &[f64]) -> f64 {
    first.iter().zip(second).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{normal, random_rotation};

    /// Rows around four corners, in turn.
    fn corners(rows: usize, spread: f64, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        let of = |row: usize| [10.0 * f64::from(row as u32 % 2), 10.0 * f64::from(row as u32 / 2 % 2), 0.0];
        let values: Vec<f64> = (0..rows).flat_map(of).map(|x| x + spread * normal(&mut rng)).collect();
        Features::new(3, &values).unwrap()
    }

    fn same_pairs(first: &[u32], second: &[u32]) -> bool {
        let pairs =
            |of: &[u32]| -> Vec<bool> { of.iter().flat_map(|a| of.iter().map(move |b| a == b)).collect() };
        pairs(first) == pairs(second)
    }

    #[test]
    fn two_pairs_by_hand() {
        let rows = Features::new(1, &[0.0, 10.0, 1.0, 11.0]).unwrap();
        let found = k_means(&rows, 2, Seed(1)).unwrap();
        assert!(same_pairs(&found.assigned, &[0, 1, 0, 1]), "{found:?}");
        let centre = |row: usize| found.centres.row(found.assigned[row] as usize)[0];
        assert_eq!((centre(0), centre(1)), (0.5, 10.5));
        let (near, far) = (found.assigned[0], found.assigned[1]);
        assert_eq!(found.nearest(&Features::new(1, &[9.0, -3.0, 5.4, 5.6]).unwrap()), [far, near, near, far]);
    }

    #[test]
    fn corners_are_found_from_every_seed_and_rotation_changes_nothing() {
        let rows = corners(80, 0.3, 2);
        let turned = rows.rotate(&random_rotation(3, Seed(5))).unwrap();
        for seed in 0..20 {
            let found = k_means(&rows, 4, Seed(seed)).unwrap();
            let truth: Vec<u32> = (0..80).map(|row| row % 4).collect();
            assert!(same_pairs(&found.assigned, &truth), "seed {seed}");
            assert_eq!(found.assigned, k_means(&turned, 4, Seed(seed)).unwrap().assigned);
        }
    }

    #[test]
    fn there_are_no_more_clusters_than_different_rows_and_threads_change_nothing() {
        let rows = Features::new(2, &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(k_means(&rows, 5, Seed(1)).unwrap().count(), 2);
        assert!(k_means(&rows, 0, Seed(1)).is_err());
        let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let run = || k_means(&corners(200, 4.0, 3), 7, Seed(4)).unwrap();
        assert_eq!(threads(1).install(run), threads(3).install(run));
    }
}

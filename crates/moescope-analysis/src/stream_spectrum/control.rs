//! How much of a router's input lies where the router looks.

use moescope_base::WeightMatrix;
use nalgebra::DMatrix;

use super::METHOD;
use crate::matrix::{normal, product};
use crate::routing::{NullComparison, Permutations};
use crate::statistics::{Bootstrap, Resampling, Tail, cluster_bootstrap};
use crate::{AnalysisError, check};

/// Share of the variance of a router's input along the differences between the rows of its weights: the part that can move a choice, against the
/// content that cannot.
///
/// What all rows have in common raises the scores of all experts alike and moves no choice, so their mean is taken out first.
///
/// - **Unit and range:** share of variance, from 0 to 1.
/// - **Null:** random subspaces of the same rank, `rank / width` on average. A router that looks where its input does not vary is below.
/// - **Does not show:** how much of that part does move choices: large margins leave most of it without effect.
/// - **Source:** control and content of the residual stream, split by the router's row space, Yuan, Ye and Sharkey 2026 (arXiv 2604.17837).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ControlShare {
    /// Independent directions among the differences between rows of the router.
    pub rank: usize,
    /// Width of the input.
    pub width: usize,
    /// The share, interval over documents.
    pub share: Bootstrap,
    /// The share beside those of random subspaces.
    pub against: NullComparison,
}

/// Splits `rows[row, width]`, of the documents `documents[row]`; `None` where the router sees everything.
///
/// # Errors
/// If widths or lengths disagree, there are too few documents, or a number is not finite.
pub fn control_share(
    rows: &[f32],
    documents: &[u32],
    router: &WeightMatrix,
    permutations: Permutations,
    resampling: Resampling,
) -> Result<Option<ControlShare>, AnalysisError> {
    permutations.check(METHOD)?;
    let width = router.columns();
    check::same_length(METHOD, "list of rows", rows.len(), documents.len() * width)?;
    let centred = centred(rows, width)?;
    let weights: Vec<f64> =
        (0..router.rows()).flat_map(|row| router.row(row)).map(|x| f64::from(*x)).collect();
    check::finite(METHOD, &weights)?;
    // The rows of the router as columns, less their mean: what tells one expert from another.
    let mut looks = DMatrix::from_vec(width, router.rows(), weights);
    let (common, size) = (looks.column_mean(), looks.norm());
    looks.column_iter_mut().for_each(|mut row| row -= &common);
    if looks.norm() <= NOTHING * size {
        return Ok(None);
    }
    let basis = orthonormal(&looks);
    let rank = basis.ncols();
    if rank == 0 || rank >= width {
        return Ok(None);
    }
    let whole: Vec<f64> = centred.column_iter().map(|row| row.norm_squared()).collect();
    let inside = |basis: &DMatrix<f64>| -> Vec<f64> {
        product(&basis.transpose(), &centred).column_iter().map(|row| row.norm_squared()).collect()
    };
    let seen = inside(&basis);
    let share = |rows: &[usize]| {
        rows.iter().map(|row| seen[*row]).sum::<f64>() / rows.iter().map(|row| whole[*row]).sum::<f64>()
    };
    let share = cluster_bootstrap(documents, share, resampling)?;
    let total: f64 = whole.iter().sum();
    let draws = permutations.draw(
        || (),
        |(), rng| {
            // Gaussian columns are independent, so that no direction of theirs is rounding.
            let drawn = DMatrix::from_fn(width, rank, |_, _| normal(rng)).qr().q();
            inside(&drawn).iter().sum::<f64>() / total
        },
    );
    let against = NullComparison::new(share.estimate, &draws, Tail::Greater);
    Ok(Some(ControlShare { rank, width, share, against }))
}

/// Rows less their mean, one in each column.
fn centred(rows: &[f32], width: usize) -> Result<DMatrix<f64>, AnalysisError> {
    let numbers: Vec<f64> = rows.iter().map(|x| f64::from(*x)).collect();
    check::finite(METHOD, &numbers)?;
    let mut matrix = DMatrix::from_vec(width, numbers.len() / width, numbers);
    let mean = matrix.column_mean();
    matrix.column_iter_mut().for_each(|mut column| column -= &mean);
    Ok(matrix)
}

/// Singular values below this share of the largest are rounding.
const NOTHING: f64 = 1e-6;

/// An orthonormal basis of what the columns span, one vector in each column.
fn orthonormal(columns: &DMatrix<f64>) -> DMatrix<f64> {
    let svd = columns.clone().svd(true, false);
    let largest = svd.singular_values.iter().copied().fold(0.0, f64::max);
    let kept: Vec<usize> =
        (0..svd.singular_values.len()).filter(|at| svd.singular_values[*at] > NOTHING * largest).collect();
    svd.u.expect("asked for").select_columns(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::BootstrapMethod;
    use crate::turn::Turn;
    use moescope_base::Seed;

    const RESAMPLING: Resampling =
        Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
    const WIDTH: usize = 12;

    fn gaussian(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = Seed(seed).rng();
        (0..count).map(|_| normal(&mut rng) as f32).collect()
    }

    fn router(data: Vec<f32>) -> WeightMatrix {
        WeightMatrix::new(WIDTH, data).unwrap()
    }

    fn shared(rows: &[f32], router: &WeightMatrix, seed: u64) -> ControlShare {
        let documents: Vec<u32> = (0..(rows.len() / WIDTH) as u32).map(|row| row / 10).collect();
        control_share(rows, &documents, router, Permutations::new(39, Seed(seed)), RESAMPLING)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_split_by_hand() {
        // Two rows along one axis are one direction; rows vary by 3 along it and by 1 along another.
        let axis = |at: usize, size: f32| (0..WIDTH).map(move |x| if x == at { size } else { 0.0 });
        let looking = router(axis(0, 1.0).chain(axis(0, -2.0)).collect());
        let rows: Vec<f32> = [(0, 3.0), (0, -3.0), (1, 1.0), (1, -1.0)]
            .iter()
            .cycle()
            .take(80)
            .flat_map(|(at, size)| axis(*at, *size))
            .collect();
        let found = shared(&rows, &looking, 1);
        assert_eq!((found.rank, found.width), (1, WIDTH));
        assert!((found.share.estimate - 0.9).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_router_that_looks_where_its_input_varies_is_found_and_a_random_one_is_not() {
        let mut rows = gaussian(400 * WIDTH, 2);
        rows.chunks_exact_mut(WIDTH).for_each(|row| row[..3].iter_mut().for_each(|x| *x *= 4.0));
        let planted = (0..3).flat_map(|at| (0..WIDTH).map(move |x| f32::from(u8::from(x == at))));
        let found = shared(&rows, &router(planted.collect()), 1);
        assert!(found.against.p_value <= 0.03 && found.share.low > 0.45, "{found:?}");
        let alarms = (0..200).filter(|seed| {
            let random = router(gaussian(3 * WIDTH, 100 + seed));
            shared(&rows[..100 * WIDTH], &random, *seed).against.p_value <= 0.05
        });
        // Of 200 draws at 5 % more than 18 come in one of a hundred runs.
        let alarms = alarms.count();
        assert!(alarms <= 18, "{alarms}");
    }

    #[test]
    fn what_all_rows_share_moves_no_choice_and_no_number() {
        let (rows, weights) = (gaussian(100 * WIDTH, 7), gaussian(4 * WIDTH, 8));
        let common = gaussian(WIDTH, 9);
        let moved: Vec<f32> = weights
            .chunks_exact(WIDTH)
            .flat_map(|row| row.iter().zip(&common).map(|(x, c)| x + 5.0 * c))
            .collect();
        let (plain, moved) = (shared(&rows, &router(weights), 1), shared(&rows, &router(moved), 1));
        assert_eq!((plain.rank, moved.rank), (3, 3));
        assert!((plain.share.estimate - moved.share.estimate).abs() < 1e-4, "{plain:?} {moved:?}");
        // Experts whose rows are equal are chosen by chance alone.
        let documents: Vec<u32> = (0..100).map(|row| row / 10).collect();
        let equal = router(common.repeat(4));
        let none =
            control_share(&rows, &documents, &equal, Permutations::new(9, Seed(1)), RESAMPLING).unwrap();
        assert_eq!(none, None);
    }

    #[test]
    fn turning_both_changes_nothing_and_a_router_that_sees_everything_has_no_split() {
        let (rows, weights) = (gaussian(100 * WIDTH, 3), gaussian(4 * WIDTH, 4));
        let turn = Turn::new(WIDTH, Seed(5));
        let before = shared(&rows, &router(weights.clone()), 1);
        let after = shared(&turn.of_rows(&rows), &router(turn.of_rows(&weights)), 1);
        assert!((before.share.estimate - after.share.estimate).abs() < 1e-5);
        let all = router(gaussian((WIDTH + 2) * WIDTH, 6));
        let documents: Vec<u32> = (0..100).map(|row| row / 10).collect();
        let none = control_share(&rows, &documents, &all, Permutations::new(9, Seed(1)), RESAMPLING).unwrap();
        assert_eq!(none, None);
        assert!(
            control_share(&rows, &documents[1..], &all, Permutations::new(9, Seed(1)), RESAMPLING).is_err()
        );
    }
}

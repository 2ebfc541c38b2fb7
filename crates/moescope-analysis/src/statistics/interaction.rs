use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, FisherSnedecor};

use super::{Summary, holm, mean, one_sample};
use crate::{AnalysisError, check};

/// Whether a contrast, such as fine minus coarse experts, differs between tasks.
///
/// Seeds are blocks: the contrast is taken within seed and task, then compared between tasks within the seed.
///
/// - **Unit:** that of the metric, which must be the same and comparable for all tasks.
/// - **Null:** the contrast is the same on every task.
/// - **Does not show:** that the contrast differs from 0 on any task; `contrasts` has that.
/// - **Source:** randomised-block analysis of variance of the contrasts; assumes one variance for all tasks
///   (sphericity). The comparisons of single tasks do not assume it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// Contrast of each task over seeds.
    pub contrasts: Vec<Summary>,
    /// Contrast of each task minus the mean contrast of all other tasks, over seeds.
    pub deviations: Vec<Summary>,
    /// Holm-corrected p-value of each deviation.
    pub p_holm: Vec<f64>,
    /// F statistic of the differences between tasks.
    pub f: f64,
    /// Its p-value: whether the contrast differs between tasks at all.
    pub p_value: f64,
}

/// Compares `first[seed][task] − second[seed][task]` between tasks.
///
/// # Errors
/// With fewer than two seeds or two tasks, lists of different shape, or a value that is not finite.
pub fn interaction(first: &[Vec<f64>], second: &[Vec<f64>]) -> Result<Interaction, AnalysisError> {
    let contrasts = contrasts(first, second)?;
    let tasks = contrasts[0].len();
    let of_task = |task: usize| contrasts.iter().map(|row| row[task]).collect::<Vec<f64>>();
    let deviation =
        |task: usize| contrasts.iter().map(|row| from_the_others(row, task)).collect::<Vec<f64>>();
    let deviations: Vec<Summary> = (0..tasks).map(|t| one_sample(&deviation(t))).collect::<Result<_, _>>()?;
    let p_holm = holm(&deviations.iter().map(|d| d.p_value).collect::<Vec<_>>());
    let (f, p_value) = block_test(&contrasts);
    let contrasts = (0..tasks).map(|t| one_sample(&of_task(t))).collect::<Result<_, _>>()?;
    Ok(Interaction { contrasts, deviations, p_holm, f, p_value })
}

/// First minus second: `[seed][task]`.
fn contrasts(first: &[Vec<f64>], second: &[Vec<f64>]) -> Result<Vec<Vec<f64>>, AnalysisError> {
    let method = "interaction";
    check::at_least(method, "seeds", first.len(), 2)?;
    check::same_length(method, "second list of seeds", second.len(), first.len())?;
    let tasks = first[0].len();
    check::at_least(method, "tasks", tasks, 2)?;
    for row in first.iter().chain(second) {
        check::same_length(method, "row of a seed", row.len(), tasks)?;
        check::finite(method, row)?;
    }
    let subtract = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(x, y)| x - y).collect();
    Ok(first.iter().zip(second).map(subtract).collect())
}

fn from_the_others(row: &[f64], task: usize) -> f64 {
    let others: f64 = row.iter().enumerate().filter(|(t, _)| *t != task).map(|(_, c)| c).sum();
    row[task] - others / (row.len() - 1) as f64
}

/// F and p of the task effect on `contrasts[seed][task]` with seeds as blocks.
fn block_test(contrasts: &[Vec<f64>]) -> (f64, f64) {
    let (seeds, tasks) = (contrasts.len(), contrasts[0].len());
    let by_seed: Vec<f64> = contrasts.iter().map(|row| mean(row)).collect();
    let by_task: Vec<f64> =
        (0..tasks).map(|t| contrasts.iter().map(|row| row[t]).sum::<f64>() / seeds as f64).collect();
    let grand = mean(&by_seed);
    let between: f64 = by_task.iter().map(|m| (m - grand).powi(2)).sum::<f64>() * seeds as f64;
    let residual: f64 = (0..seeds)
        .flat_map(|s| (0..tasks).map(move |t| (s, t)))
        .map(|(s, t)| (contrasts[s][t] - by_seed[s] - by_task[t] + grand).powi(2))
        .sum();
    let (upper, lower) = ((tasks - 1) as f64, ((seeds - 1) * (tasks - 1)) as f64);
    let f = (between / upper) / (residual / lower);
    (f, upper_tail(f, upper, lower))
}

/// Probability of a larger F; the limits where there is no residual.
fn upper_tail(f: f64, upper: f64, lower: f64) -> f64 {
    if f.is_nan() {
        return 1.0;
    }
    if f.is_infinite() {
        return 0.0;
    }
    FisherSnedecor::new(upper, lower).expect("the degrees of freedom are positive").sf(f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use rand::RngExt;

    fn planted() -> Vec<Vec<f64>> {
        vec![vec![0.1, 0.4, 0.2], vec![0.2, 0.5, 0.1], vec![0.05, 0.45, 0.3], vec![0.0, 0.6, 0.2]]
    }

    fn zeros(like: &[Vec<f64>]) -> Vec<Vec<f64>> {
        like.iter().map(|row| vec![0.0; row.len()]).collect()
    }

    #[test]
    fn the_omnibus_test_agrees_with_scipy_and_the_planted_task_is_named() {
        let result = interaction(&planted(), &zeros(&planted())).unwrap();
        assert!((result.f - 16.6734693878).abs() < 1e-8);
        assert!((result.p_value - 0.00354585443201).abs() < 1e-9);
        assert!(result.p_holm[1] < 0.05 && result.deviations[1].mean > 0.3);
        // By hand for the first seed: 0.4 − (0.1 + 0.2) / 2.
        assert!((from_the_others(&planted()[0], 1) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn what_is_common_to_all_tasks_is_no_interaction() {
        let shifted: Vec<Vec<f64>> = planted()
            .iter()
            .enumerate()
            .map(|(s, row)| row.iter().map(|v| v + 3.0 * s as f64).collect())
            .collect();
        let (a, b) = (interaction(&planted(), &zeros(&planted())), interaction(&shifted, &zeros(&planted())));
        assert!((a.unwrap().f - b.unwrap().f).abs() < 1e-6);
    }

    #[test]
    fn noise_is_rejected_at_the_stated_rate() {
        let mut rng = Seed(21).rng();
        let mut noise = || -> Vec<Vec<f64>> {
            (0..5).map(|_| (0..4).map(|_| (0..6).map(|_| rng.random::<f64>()).sum()).collect()).collect()
        };
        let rejected = (0..1000).filter(|_| interaction(&noise(), &noise()).unwrap().p_value < 0.05).count();
        assert!((25..80).contains(&rejected), "{rejected} of 1000 at level 0.05");
    }

    #[test]
    fn ragged_rows_and_one_seed_are_refused() {
        assert!(interaction(&[vec![1.0, 2.0]], &[vec![1.0, 2.0]]).is_err());
        assert!(interaction(&[vec![1.0, 2.0], vec![1.0]], &[vec![1.0, 2.0], vec![1.0, 2.0]]).is_err());
    }
}

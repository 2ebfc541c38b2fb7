//! Effective width: the dense width that reaches the loss of an MoE model.

use moescope_base::{Column, Table};
use serde::{Deserialize, Serialize};

use crate::statistics::{Summary, one_sample};
use crate::tabulate::labels;
use crate::{AnalysisError, check};

/// Where the width lies that gives a dense model the loss of the other model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EquivalentWidth {
    /// At this width, by interpolation.
    At(f64),
    /// Below this width, the narrowest that was trained: even it has a lower loss.
    Below(f64),
    /// Above this width, the widest that was trained: even it has a higher loss.
    Above(f64),
}

/// Dense widths that reach the loss of the other model, seed by seed.
///
/// - **Unit:** neurons of a dense feed-forward layer.
/// - **Null:** the active width of the model (routing brings nothing) or its total width (it is just a wide layer);
///   compare the interval with both.
/// - **Does not show:** that the models compute alike, or that the equivalence holds at another budget. Outside the
///   trained widths only a bound is known.
/// - **Method:** losses of a seed are made non-increasing in width (pool adjacent violators) and interpolated linearly
///   on log2 of the width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EffectiveWidth {
    /// Equivalent width of each seed.
    pub by_seed: Vec<EquivalentWidth>,
    /// Mean, 95 % t-interval over seeds of **log2** of the width; none if a seed has only a bound.
    pub log2_width: Option<Summary>,
}

impl EffectiveWidth {
    /// Geometric mean of the widths with its 95 % interval `(estimate, low, high)`; none if a seed has only a bound.
    pub fn width(&self) -> Option<(f64, f64, f64)> {
        self.log2_width.map(|s| (s.mean.exp2(), s.low.exp2(), s.high.exp2()))
    }

    /// Seeds below the narrowest width, and seeds above the widest.
    pub fn bounds(&self) -> (usize, usize) {
        let count = |keep: fn(&EquivalentWidth) -> bool| self.by_seed.iter().filter(|w| keep(w)).count();
        (count(|w| matches!(w, EquivalentWidth::Below(_))), count(|w| matches!(w, EquivalentWidth::Above(_))))
    }
}

/// Finds the dense width with the loss of the other model.
///
/// - **Shape:** `widths[width]` ascending; `dense_losses[seed][width]` and `losses[seed]` in nats.
///
/// # Errors
/// With fewer than three widths, widths that do not ascend, fewer than two seeds, lists of different length, or a loss
/// that is not finite.
pub fn effective_width(
    widths: &[f64],
    dense_losses: &[Vec<f64>],
    losses: &[f64],
) -> Result<EffectiveWidth, AnalysisError> {
    let method = "effective width";
    check::at_least(method, "dense widths", widths.len(), 3)?;
    let ascending = widths[0] > 0.0 && widths.windows(2).all(|w| w[0] < w[1]);
    check::in_range(method, "list of widths", format!("{widths:?}"), ascending, "positive and ascending")?;
    check::at_least(method, "seeds", losses.len(), 2)?;
    check::same_length(method, "list of dense seeds", dense_losses.len(), losses.len())?;
    check::finite(method, losses)?;
    for row in dense_losses {
        check::same_length(method, "dense losses of a seed", row.len(), widths.len())?;
        check::finite(method, row)?;
    }
    let by_seed: Vec<EquivalentWidth> =
        dense_losses.iter().zip(losses).map(|(row, loss)| equivalent(widths, row, *loss)).collect();
    let inner: Vec<f64> = by_seed
        .iter()
        .filter_map(|w| if let EquivalentWidth::At(w) = w { Some(w.log2()) } else { None })
        .collect();
    let log2_width = if inner.len() == by_seed.len() { Some(one_sample(&inner)?) } else { None };
    Ok(EffectiveWidth { by_seed, log2_width })
}

/// One row for each model.
///
/// # Errors
/// If the columns make no table.
pub fn table(name: &str, title: &str, models: &[(String, EffectiveWidth)]) -> Result<Table, AnalysisError> {
    let width = |pick: fn((f64, f64, f64)) -> f64| -> Vec<f64> {
        models.iter().map(|(_, m)| m.width().map_or(f64::NAN, pick)).collect()
    };
    let bound =
        |pick: fn((usize, usize)) -> usize| models.iter().map(|(_, m)| pick(m.bounds()) as i64).collect();
    let unit = "neurons";
    let [low, high] = Column::interval(
        "width",
        unit,
        "95 % t-interval over seeds, on log2",
        width(|w| w.1),
        width(|w| w.2),
    );
    let seeds = models.iter().map(|(_, m)| m.by_seed.len() as i64).collect();
    let columns = vec![
        Column::key("model", "which model", labels(models)),
        Column::estimate(
            "width",
            unit,
            "dense width of equal loss, geometric mean; empty if a seed has only a bound",
            width(|w| w.0),
        ),
        low,
        high,
        Column::observations("width", "seeds", seeds),
        Column::count(
            "seeds_below",
            "seeds",
            "seeds whose loss even the narrowest dense model beats",
            bound(|b| b.0),
        ),
        Column::count(
            "seeds_above",
            "seeds",
            "seeds whose loss even the widest dense model does not reach",
            bound(|b| b.1),
        ),
    ];
    let method = "Per seed, dense losses made monotone and interpolated on log2 width; no extrapolation.";
    Ok(Table::new(name, title, method, columns)?)
}

fn equivalent(widths: &[f64], dense: &[f64], loss: f64) -> EquivalentWidth {
    let monotone = non_increasing(dense);
    let last = widths.len() - 1;
    if loss > monotone[0] {
        return EquivalentWidth::Below(widths[0]);
    }
    if loss < monotone[last] {
        return EquivalentWidth::Above(widths[last]);
    }
    // The first width whose loss is as low: on a flat stretch, the narrowest width that does it.
    let reached = monotone.iter().position(|l| *l <= loss).expect("the last loss is as low");
    if reached == 0 {
        return EquivalentWidth::At(widths[0]);
    }
    let (above, below) = (monotone[reached - 1], monotone[reached]);
    let share = (above - loss) / (above - below);
    let (from, to) = (widths[reached - 1].log2(), widths[reached].log2());
    EquivalentWidth::At((from + share * (to - from)).exp2())
}

/// The non-increasing sequence nearest in squares: neighbours that rise are pooled to their mean.
fn non_increasing(values: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for value in values {
        let mut block = (*value, 1);
        while let Some(previous) = blocks.last().filter(|previous| previous.0 < block.0).copied() {
            blocks.pop();
            let size = previous.1 + block.1;
            block = ((previous.0 * previous.1 as f64 + block.0 * block.1 as f64) / size as f64, size);
        }
        blocks.push(block);
    }
    blocks.into_iter().flat_map(|(value, size)| std::iter::repeat_n(value, size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTHS: [f64; 4] = [64.0, 128.0, 256.0, 512.0];

    fn power_law(width: f64) -> f64 {
        2.0 + 3.0 * width.powf(-0.3)
    }

    #[test]
    fn halfway_in_loss_is_halfway_on_the_logarithm() {
        let dense = vec![vec![4.0, 3.0, 2.5], vec![4.0, 3.0, 2.5]];
        let found = effective_width(&[64.0, 128.0, 256.0], &dense, &[3.5, 2.75]).unwrap();
        let EquivalentWidth::At(first) = found.by_seed[0] else { panic!("{found:?}") };
        assert!((first - 64.0 * 2.0_f64.sqrt()).abs() < 1e-9);
        let (estimate, low, high) = found.width().unwrap();
        assert!((estimate - 128.0).abs() < 1e-9 && low < estimate && estimate < high);
    }

    #[test]
    fn a_planted_width_is_found_from_a_power_law() {
        let seeds = 5;
        let offset = |seed: usize| 0.01 * seed as f64;
        let dense: Vec<Vec<f64>> =
            (0..seeds).map(|s| WIDTHS.iter().map(|w| power_law(*w) + offset(s)).collect()).collect();
        let losses: Vec<f64> =
            (0..seeds).map(|s| power_law(180.0 * (1.0 + 0.02 * s as f64)) + offset(s)).collect();
        let (estimate, low, high) = effective_width(&WIDTHS, &dense, &losses).unwrap().width().unwrap();
        assert!(low < 187.0 && 187.0 < high && (estimate - 187.0).abs() < 6.0, "{estimate} [{low}, {high}]");
    }

    #[test]
    fn outside_the_trained_widths_only_a_bound_is_reported() {
        let dense = vec![vec![4.0, 3.0, 2.5]; 3];
        let found = effective_width(&[64.0, 128.0, 256.0], &dense, &[4.5, 2.0, 3.0]).unwrap();
        assert_eq!(found.by_seed[0], EquivalentWidth::Below(64.0));
        assert_eq!(found.by_seed[1], EquivalentWidth::Above(256.0));
        assert_eq!((found.bounds(), found.width()), ((1, 1), None));
        let table = table("widths", "Widths", &[("moe".into(), found)]).unwrap();
        assert!(table.column("width").unwrap().data.number(0).unwrap().is_nan());
    }

    #[test]
    fn losses_that_rise_by_noise_are_pooled() {
        assert_eq!(non_increasing(&[4.0, 3.0, 3.2, 2.0]), [4.0, 3.1, 3.1, 2.0]);
        assert_eq!(non_increasing(&[1.0, 2.0, 3.0]), [2.0, 2.0, 2.0]);
    }

    #[test]
    fn two_widths_and_one_seed_are_too_few() {
        assert!(effective_width(&[1.0, 2.0], &[vec![2.0, 1.0], vec![2.0, 1.0]], &[1.5, 1.5]).is_err());
        assert!(effective_width(&[1.0, 2.0, 4.0], &[vec![3.0, 2.0, 1.0]], &[1.5]).is_err());
        assert!(
            effective_width(&[1.0, 4.0, 2.0], &[vec![3.0, 2.0, 1.0], vec![3.0, 2.0, 1.0]], &[1.5; 2])
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_lower_loss_never_means_a_narrower_model(
            dense in prop::collection::vec(1.0..4.0f64, 4), a in 0.5..4.5f64, b in 0.5..4.5f64
        ) {
            let place = |loss: f64| match equivalent(&WIDTHS, &dense, loss) {
                EquivalentWidth::Below(_) => 0.0,
                EquivalentWidth::At(w) => w,
                EquivalentWidth::Above(_) => f64::INFINITY,
            };
            prop_assert!(place(a.min(b)) >= place(a.max(b)));
        }

        #[test]
        fn a_shift_of_all_losses_changes_nothing(dense in prop::collection::vec(1.0..4.0f64, 4), loss in 1.0..4.0f64) {
            let shifted: Vec<f64> = dense.iter().map(|l| l + 8.0).collect();
            match (equivalent(&WIDTHS, &dense, loss), equivalent(&WIDTHS, &shifted, loss + 8.0)) {
                (EquivalentWidth::At(a), EquivalentWidth::At(b)) => prop_assert!((a / b - 1.0).abs() < 1e-6),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}

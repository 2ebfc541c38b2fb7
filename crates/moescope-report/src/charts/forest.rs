//! Forests: estimates with their intervals, one below the other.

use super::{Chart, rows};
use crate::plot::RowPlot;

/// Estimates with intervals, one row each, beside a reference line.
///
/// A row takes 30 pixels. The axis need not hold zero: what counts is whether an interval meets the reference.
pub(super) fn chart(plot: &RowPlot) -> Chart {
    Chart { option: rows::option_of(plot, "interval"), height: 90 + 30 * plot.rows.len() }
}

use super::{Chart, rows};
use crate::plot::RowPlot;

/// Estimates with intervals, one row each, beside a reference line.
pub(super) fn chart(plot: &RowPlot) -> Chart {
    Chart { option: rows::option_of(plot, "interval"), height: 90 + 30 * plot.rows.len() }
}

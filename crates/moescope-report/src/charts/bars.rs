//! Bars: one group for each category, one bar in it for each series.

use serde_json::json;

use super::{Chart, rows};
use crate::plot::RowPlot;

/// Horizontal bars from zero with intervals, grouped by series.
///
/// They lie down because names of categories are long and phones are narrow.
///
/// The axis holds zero, because the length of a bar is what the eye compares. A group takes 14 pixels for each series
/// and 14 for the gap.
pub(super) fn chart(plot: &RowPlot) -> Chart {
    let mut option = rows::option_of(plot, "bar");
    option["xAxis"]["scale"] = json!(false);
    let thickness = 14 * plot.series.len() + 14;
    Chart { option, height: 90 + thickness.max(26) * plot.rows.len() }
}

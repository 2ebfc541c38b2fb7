//! The option that forests and bars share.

use serde_json::{Value, json};

use super::{axis, option, with_legend};
use crate::palette::Look;
use crate::plot::{RowPlot, RowSeries};

/// What forests and bars share: names on the left, one drawn mark for each estimate.
///
/// A mark is `[estimate, row, low, high, null]`; the page draws it with the function `@mark`.
pub(super) fn option_of(plot: &RowPlot, style: &str) -> Value {
    let hints = json!({"kind": "rows", "rows": plot.rows.len()});
    let mut option = option(hints);
    option["xAxis"] = axis::numbers(&plot.quantity, false);
    axis::end_at_range(&mut option["xAxis"], &plot.quantity, plot.extent());
    option["yAxis"] = axis::names(&plot.rows, None);
    option["yAxis"]["inverse"] = json!(true);
    let slots = plot.series.len();
    let series = plot.series.iter().enumerate();
    option["series"] = series.map(|(slot, s)| series_of(s, style, slot, slots)).collect();
    if let Some(reference) = plot.reference {
        option["series"][0]["markLine"] = reference_line(reference);
        option["grid"]["top"] = json!(28);
    }
    // ECharts knows no marker of a custom series, so the legend names it.
    let entry = |(i, s): (usize, &RowSeries)| json!({"name": s.name, "icon": Look::of(i).marker});
    let entries: Vec<Value> = plot.series.iter().enumerate().map(entry).collect();
    with_legend(&mut option, &entries, 10);
    option
}

/// One series of marks. `style` is `interval` or `bar`; `slot` of `slots` is its place within each row, from the top.
///
/// The horizontal axis is told of estimate, both ends and null, so that none of them is cut off.
fn series_of(series: &RowSeries, style: &str, slot: usize, slots: usize) -> Value {
    let look = Look::of(slot);
    let datum = |(row, reading, words): &(usize, crate::plot::Reading, Vec<String>)| json!({"value": [reading.value, row, reading.low, reading.high, reading.null], "words": words});
    json!({
        "type": "custom",
        "name": series.name,
        "color": format!("@series-{}", look.color),
        "renderItem": "@mark",
        "draw": {"style": style, "slot": slot, "slots": slots, "marker": look.marker},
        "encode": {"x": [0, 2, 3, 4], "y": 1},
        "clip": true,
        "data": series.marks.iter().map(datum).collect::<Value>(),
    })
}

/// A dashed line at the value to compare with, named with its number: the eye alone does not tell 0 from 1.
fn reference_line(at: f64) -> Value {
    json!({
        "silent": true,
        "symbol": "none",
        "precision": 12, // the library would else round the place to two decimals
        "lineStyle": {"color": "@soft", "type": "dashed", "width": 1},
        "label": {
            "color": "@soft",
            "position": "start",
            "formatter": format!("reference {}", crate::number::round(at)),
        },
        "data": [{"xAxis": at}],
    })
}

//! Lines: estimates along a numeric axis.

use serde_json::{Value, json};

use super::{Chart, axis, option, with_legend};
use crate::palette::Look;
use crate::plot::{LinePlot, LineSeries, Reading};

/// One line with an interval band for each series, and dotted lines for the nulls.
///
/// Where all series have one null, it is drawn once, in the colour of text; else each null has the colour of its
/// line.
pub(super) fn chart(plot: &LinePlot) -> Chart {
    let mut option = option(json!({"kind": "lines"}));
    option["xAxis"] = match plot.log2_x {
        true => axis::powers_of_two(&plot.x, plot.positions()),
        false => axis::numbers(&plot.x, false),
    };
    if let Some(ticks) = plot.ticks() {
        axis::with_ticks(&mut option["xAxis"], &ticks);
    }
    option["yAxis"] = axis::numbers(&plot.y, true);
    axis::end_at_range(&mut option["yAxis"], &plot.y, plot.extent());
    let shared = plot.shared_null();
    let mut series: Vec<Value> = Vec::new();
    for (i, line) in plot.series.iter().enumerate() {
        // The legend takes the look of the first series of a name.
        series.push(line_of(line, i));
        series.extend(band_of(line, i, plot.series.len()));
        series.extend(shared.is_none().then(|| null_of(line, i)).flatten());
    }
    series.extend(shared.and_then(|points| null_line("@soft", &points)));
    option["series"] = series.into();
    if plot.has_null() {
        option["grid"]["right"] = json!(44); // room for the word at the end of the line
    }
    let entries: Vec<Value> = plot.series.iter().map(|s| json!(s.name)).collect();
    with_legend(&mut option, &entries, 30);
    Chart { option, height: 360 }
}

/// The line itself through `[position, estimate]`; it breaks where an estimate is missing, for a bridge would be read
/// as a measurement.
fn line_of(line: &LineSeries, i: usize) -> Value {
    let look = Look::of(i);
    let color = format!("@series-{}", look.color);
    let datum = |(x, r, words): &(f64, Reading, Vec<String>)| json!({"value": [x, r.value], "words": words});
    json!({
        "type": "line",
        "name": line.name,
        "color": color,
        "lineStyle": {"width": 2, "type": if look.dash.is_empty() { json!("solid") } else { json!(look.dash) }},
        "symbol": look.marker,
        "symbolSize": if line.points.len() > 60 { 4 } else { 7 },
        "showAllSymbol": true,
        "connectNulls": false,
        "emphasis": {"focus": "series"},
        "z": 3,
        "data": line.points.iter().map(datum).collect::<Value>(),
    })
}

/// The band between the ends of the intervals; none where the table has no intervals.
///
/// Data are `[position, low, high]`. Bands grow paler above six series, where several lie on each other.
fn band_of(line: &LineSeries, i: usize, series: usize) -> Option<Value> {
    if !line.points.iter().any(|(_, reading, _)| reading.has_interval()) {
        return None;
    }
    let ends = |(x, r, _): &(f64, Reading, Vec<String>)| json!([x, r.low, r.high]);
    Some(json!({
        "type": "custom",
        "name": line.name,
        "color": format!("@series-{}", Look::of(i).color),
        "renderItem": "@band",
        "draw": {"opacity": if series > 6 { 0.08 } else { 0.18 }},
        "encode": {"x": 0, "y": [1, 2]},
        "silent": true,
        "clip": true,
        "z": 1,
        "data": line.points.iter().map(ends).collect::<Value>(),
    }))
}

/// The nulls of one line in its own colour; none where it has none.
fn null_of(line: &LineSeries, i: usize) -> Option<Value> {
    let points: Vec<(f64, f64)> = line.points.iter().map(|(x, r, _)| (*x, r.null)).collect();
    null_line(&format!("@series-{}", Look::of(i).color), &points)
}

/// A dotted line with the word "null" at its end; none where there is no null.
fn null_line(color: &str, points: &[(f64, f64)]) -> Option<Value> {
    points.iter().any(|(_, null)| null.is_finite()).then(|| {
        json!({
            "type": "line",
            "name": "null",
            "color": color,
            "lineStyle": {"width": 1.5, "type": "dotted"},
            "symbol": "none",
            "silent": true,
            "z": 2,
            "endLabel": {"show": true, "formatter": "null", "color": color, "distance": 4},
            "data": points,
        })
    })
}

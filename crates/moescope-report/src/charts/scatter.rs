//! Scatters: points that have a measured value on both axes.

use serde_json::{Value, json};

use super::{Chart, axis, option, with_legend};
use crate::palette::Look;
use crate::plot::{PointPlot, PointSeries, Reading};

/// Points with thin crosses for their intervals, and the line of equality where it is asked for.
///
/// The two axes have scales of their own, so the line of equality is not at 45 degrees; it is drawn, not left to the
/// eye.
pub(super) fn chart(plot: &PointPlot) -> Chart {
    let mut option = option(json!({"kind": "scatter"}));
    option["xAxis"] = axis::numbers(&plot.x, false);
    option["yAxis"] = axis::numbers(&plot.y, true);
    let mut series: Vec<Value> = Vec::new();
    for (i, points) in plot.series.iter().enumerate() {
        series.push(points_of(points, i));
        series.extend(plot.has_interval().then(|| crosses(points, i)));
    }
    if plot.diagonal {
        series.extend(diagonal(plot));
    }
    option["series"] = series.into();
    let entries: Vec<Value> = plot.series.iter().map(|s| json!(s.name)).collect();
    with_legend(&mut option, &entries, 10);
    Chart { option, height: 400 }
}

/// Markers at `[x, y]`; smaller and half transparent above 200 points, so that their density shows.
fn points_of(points: &PointSeries, i: usize) -> Value {
    let look = Look::of(i);
    let crowded = points.points.len() > 200;
    let datum = |(x, y, words): &(Reading, Reading, Vec<String>)| json!({"value": [x.value, y.value], "words": words});
    json!({
        "type": "scatter",
        "name": points.name,
        "color": format!("@series-{}", look.color),
        "symbol": look.marker,
        "symbolSize": if crowded { 6 } else { 10 },
        "itemStyle": {"opacity": if crowded { 0.5 } else { 0.85 }},
        "z": 3,
        "data": points.points.iter().map(datum).collect::<Value>(),
    })
}

/// Both intervals of each point, `[x, y, x low, x high, y low, y high]`; a missing end (NaN, so `null`) is not drawn.
fn crosses(points: &PointSeries, i: usize) -> Value {
    let datum =
        |(x, y, _): &(Reading, Reading, Vec<String>)| json!([x.value, y.value, x.low, x.high, y.low, y.high]);
    json!({
        "type": "custom",
        "name": points.name,
        "color": format!("@series-{}", Look::of(i).color),
        "renderItem": "@cross",
        "encode": {"x": [0, 2, 3], "y": [1, 4, 5]},
        "silent": true,
        "clip": true,
        "z": 2,
        "data": points.points.iter().map(datum).collect::<Value>(),
    })
}

/// The line of equality over the values that both axes show; none where the axes do not meet.
fn diagonal(plot: &PointPlot) -> Option<Value> {
    let (from, to) = plot.diagonal_ends()?;
    let end = |at: f64| json!({"coord": [at, at]});
    let mut start = end(from);
    start["name"] = json!("equal");
    Some(json!({
        "type": "scatter",
        "silent": true,
        "data": [],
        "markLine": {
            "silent": true,
            "symbol": "none",
            "precision": 12, // the library would else round the ends to two decimals
            "lineStyle": {"color": "@soft", "type": "dashed", "width": 1},
            "label": {"show": true, "position": "insideEndTop", "formatter": "equal", "color": "@soft"},
            "data": [[start, end(to)]],
        },
    }))
}

//! Heatmaps: one coloured cell for each pair of a column and a row.

use serde_json::{Value, json};

use super::{Chart, axis, option};
use crate::number::significant;
use crate::palette::{DIVERGING, Ramp, SEQUENTIAL};
use crate::plot::{Cell, MatrixPlot};

/// Above this number of cells their values are shown on hover only.
const LABELLED_CELLS: usize = 130;

/// A matrix of colours with its scale below.
///
/// A matrix of many rows has low rows rather than a tall chart: 34 pixels each at most, 11 at least. A cell without a
/// number stays empty.
pub(super) fn chart(plot: &MatrixPlot) -> Chart {
    let mut option = option(json!({"kind": "matrix"}));
    option["xAxis"] = axis::names(&plot.columns, Some(&plot.x));
    option["xAxis"]["axisLabel"]["hideOverlap"] = json!(true);
    let slope = slope_names(&mut option, &plot.columns);
    option["yAxis"] = axis::names(&plot.rows, Some(&plot.y));
    option["yAxis"]["inverse"] = json!(true);
    option["yAxis"]["axisLabel"]["width"] = json!(label_width(&plot.rows));
    option["yAxis"]["axisLabel"]["hideOverlap"] = json!(true);
    option["grid"]["bottom"] = json!(82 + slope);
    option["visualMap"] = scale(plot);
    option["series"] = json!([series(plot)]);
    let row = (560 / plot.rows.len().max(1)).clamp(11, 34);
    Chart { option, height: 150 + slope + row * plot.rows.len() }
}

/// Room for the names of rows, in pixels: enough for most, and not so much that the cells have none.
fn label_width(names: &[String]) -> usize {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    (6 * longest).clamp(130, 300)
}

/// Long names of columns stand aslant; the height that this takes in pixels.
fn slope_names(option: &mut Value, names: &[String]) -> usize {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    if longest <= 4 || longest * names.len() <= 100 {
        return 0;
    }
    option["xAxis"]["axisLabel"]["rotate"] = json!(40);
    option["xAxis"]["axisLabel"]["width"] = json!(110);
    // A name of 110 pixels at 40 degrees is 71 high; 12 of them are there already.
    60
}

/// Cells with a finite value, each `[column, row, value]`; the number of three digits that stands in the cell is
/// `short`.
///
/// The rim between cells goes away above 1500 of them, where it would cover the colour.
fn series(plot: &MatrixPlot) -> Value {
    let present = plot.cells.iter().filter(|cell| cell.reading.value.is_finite());
    let datum = |cell: &Cell| {
        let short = significant(cell.reading.value, 3);
        json!({"value": [cell.column, cell.row, cell.reading.value], "words": cell.words, "short": short})
    };
    json!({
        "type": "heatmap",
        "name": plot.value.title(),
        "itemStyle": {"borderColor": "@page", "borderWidth": if plot.cells.len() > 1500 { 0 } else { 1 }},
        "label": {"show": plot.cells.len() <= LABELLED_CELLS, "formatter": "@short", "fontSize": 11},
        "data": present.map(datum).collect::<Value>(),
    })
}

/// The bar of colours below the matrix, with the ends of the scale as text.
///
/// The colours are given for both themes, because a sequential scale begins near the background of the page.
fn scale(plot: &MatrixPlot) -> Value {
    let (min, max) = plot.scale();
    let Ramp { light, dark } = if plot.center.is_some() { DIVERGING } else { SEQUENTIAL };
    json!({
        "type": "continuous",
        "min": min,
        "max": max,
        "calculable": false,
        "orient": "horizontal",
        "left": "center",
        "bottom": 0,
        "itemWidth": 12,
        "itemHeight": 180,
        "text": [significant(max, 3), format!("{}   {}", plot.value.title(), significant(min, 3))],
        "textStyle": {"color": "@soft"},
        "inRange": {"color": {"light": light, "dark": dark}},
        "seriesIndex": 0,
    })
}

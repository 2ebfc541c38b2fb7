//! ECharts options: plain JSON, one function for each kind of figure.
//!
//! JSON holds no functions and no theme, so two words stand in for them, and the page puts the real thing in
//! their place: `"@name"` under the keys `color`, `borderColor`, `formatter` and `renderItem`, and the pair
//! `{"light": …, "dark": …}` under `color`. Nothing under other keys is touched, so that a label from a corpus can
//! never become code. Each datum carries its own words under `words`; they reach the page as text nodes.

mod axis;
mod bars;
mod forest;
mod heatmap;
mod lines;
mod rows;
mod scatter;

use serde_json::{Value, json};

use crate::plot::Plot;

/// A chart with the height it needs.
pub(crate) struct Chart {
    /// Option of ECharts with the stand-ins described above.
    pub(crate) option: Value,
    /// Height on a wide page in CSS pixels.
    pub(crate) height: usize,
}

impl Chart {
    /// The chart of a plot, or none when there is nothing to draw, or where the still picture has its words on hover itself.
    ///
    /// Series have the order of the plot, so that colour, dash and marker agree with the still picture.
    pub(crate) fn of(plot: &Plot) -> Option<Chart> {
        if plot.is_empty() {
            return None;
        }
        Some(match plot {
            Plot::Flows(_) | Plot::Passages(_) => return None,
            Plot::Forest(plot) => forest::chart(plot),
            Plot::Bars(plot) => bars::chart(plot),
            Plot::Lines(plot) => lines::chart(plot),
            Plot::Heatmap(plot) => heatmap::chart(plot),
            Plot::Scatter(plot) => scatter::chart(plot),
        })
    }
}

/// What all charts have in common: no motion, words on hover, room for the labels.
///
/// `hints` is a key that ECharts does not know and passes over: the page reads there which kind of figure it has and
/// how many rows, to fit the chart to a narrow screen.
fn option(hints: Value) -> Value {
    json!({
        "animation": false,
        "hints": hints,
        "textStyle": {"color": "@ink"},
        "tooltip": {"trigger": "item", "confine": true, "formatter": "@words"},
        "grid": {"left": 8, "right": 16, "top": 16, "bottom": 8},
    })
}

/// A legend above the plot, or none where one name or no name is all there is.
///
/// It breaks into lines rather than pages, so that no entry is hidden; the page knows how wide it is, and makes room
/// for the lines.
fn legend(entries: &[Value], width: usize) -> Option<Value> {
    let several = entries.len() > 1;
    several.then(|| {
        json!({
            "type": "plain",
            "top": 0,
            "left": 0,
            "itemWidth": width,
            "itemHeight": 10,
            "itemGap": 16,
            "textStyle": {"color": "@ink"},
            "data": entries,
        })
    })
}

/// Puts the legend into the option and moves the plot down to make room for it.
///
/// `width` is that of a symbol in pixels: a marker is square, a line needs room for its dashes.
fn with_legend(option: &mut Value, entries: &[Value], width: usize) {
    if let Some(legend) = legend(entries, width) {
        option["legend"] = legend;
        option["grid"]["top"] = json!(40);
    }
}

#[cfg(test)]
mod tests;

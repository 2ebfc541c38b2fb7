//! Still pictures: one SVG for each figure, for paper and for readers without scripts.
//!
//! They show what the live charts show, from the same [`Plot`], with the colours of the page's style sheet.

mod canvas;
mod flows;
mod heatmap;
mod legend;
mod lines;
mod rows;
mod scale;
mod scatter;

use crate::plot::Plot;

/// Width of every picture in its own units; the page scales it.
const WIDTH: f64 = 720.0;

/// The picture of a plot as an `<svg>` element, or none when there is nothing to draw.
///
/// `description` is the finding in words, for readers who hear the page. Unlike the live chart, a picture shows no
/// number on hover; they are those of the table that the caption names.
pub(crate) fn picture(plot: &Plot, description: &str) -> Option<String> {
    if plot.is_empty() {
        return None;
    }
    let canvas = match plot {
        Plot::Forest(plot) => rows::draw(plot, false),
        Plot::Bars(plot) => rows::draw(plot, true),
        Plot::Lines(plot) => lines::draw(plot),
        Plot::Heatmap(plot) => heatmap::draw(plot),
        Plot::Scatter(plot) => scatter::draw(plot),
        Plot::Flows(plot) => flows::draw(plot),
        // Text is set as text.
        Plot::Passages(_) => return None,
    };
    Some(canvas.finish(description))
}

#[cfg(test)]
mod tests;

//! What a figure shows, read from its table once, so that the live chart and the still picture agree.

mod flows;
mod lines;
mod matrix;
mod passages;
mod points;
mod reading;
mod rows;
mod source;

use moescope_base::{Figure, FigureKind, Table};

pub(crate) use flows::{FlowColumns, FlowPlot, Node};
pub(crate) use lines::{LinePlot, LineSeries};
pub(crate) use matrix::{Cell, MatrixPlot};
pub(crate) use passages::PassagePlot;
#[cfg(test)]
pub(crate) use passages::{Passage, Piece};
pub(crate) use points::{PointPlot, PointSeries};
pub(crate) use reading::{Quantity, Reading};
pub(crate) use rows::{RowPlot, RowSeries};

use crate::ReportError;
use source::Source;

/// The content of a figure.
///
/// A plot has chosen and ordered everything: rows, series, positions, words. What draws it decides about looks alone.
pub(crate) enum Plot {
    /// One row for each row of the table, beside a reference.
    Forest(RowPlot),
    /// One row for each category, from zero.
    Bars(RowPlot),
    /// Estimates along a numeric axis.
    Lines(LinePlot),
    /// A colour for each pair of categories.
    Heatmap(MatrixPlot),
    /// Two estimates against each other.
    Scatter(PointPlot),
    /// Streams from stage to stage.
    Flows(FlowPlot),
    /// Text with marks.
    Passages(PassagePlot),
}

impl Plot {
    /// Reads the columns that the figure names.
    ///
    /// Intervals, nulls, counts and probabilities come from the columns whose roles point at the estimate; a figure
    /// does not name them, so it cannot pair an estimate with the interval of another.
    ///
    /// # Errors
    /// [`ReportError::MissingColumn`], or [`ReportError::NotNumeric`] where numbers are needed.
    pub(crate) fn read(figure: &Figure, table: &Table) -> Result<Plot, ReportError> {
        let source = Source { figure: &figure.id, table };
        Ok(match &figure.kind {
            FigureKind::Forest { label, estimate, reference } => {
                Plot::Forest(RowPlot::forest(&source, label, estimate, *reference)?)
            }
            FigureKind::Bars { x, y, series } => Plot::Bars(RowPlot::bars(&source, x, y, series.as_deref())?),
            FigureKind::Lines { x, y, series, log2_x } => {
                Plot::Lines(LinePlot::read(&source, x, y, series.as_deref(), *log2_x)?)
            }
            FigureKind::Heatmap { x, y, value, center } => {
                Plot::Heatmap(MatrixPlot::read(&source, x, y, value, *center)?)
            }
            FigureKind::Scatter { x, y, series, diagonal } => {
                Plot::Scatter(PointPlot::read(&source, x, y, series.as_deref(), *diagonal)?)
            }
            FigureKind::Flows { stage, from, next_stage, to, value } => {
                Plot::Flows(FlowPlot::read(&source, FlowColumns { stage, from, next_stage, to, value })?)
            }
            FigureKind::Passages { passage, text, mark, value } => {
                Plot::Passages(PassagePlot::read(&source, passage, text, mark, value)?)
            }
        })
    }

    /// Whether there is anything to draw.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Plot::Forest(plot) | Plot::Bars(plot) => !plot.has_values(),
            Plot::Lines(plot) => {
                let mut points = plot.series.iter().flat_map(|s| &s.points);
                points.all(|(_, reading, _)| !reading.value.is_finite())
            }
            Plot::Heatmap(plot) => plot.cells.iter().all(|cell| !cell.reading.value.is_finite()),
            Plot::Scatter(plot) => plot.series.iter().all(|s| s.points.is_empty()),
            Plot::Flows(plot) => plot.streams.is_empty(),
            Plot::Passages(plot) => plot.passages.is_empty(),
        }
    }

    /// What marks mean that no legend names; sentences for the caption.
    pub(crate) fn key(&self) -> String {
        let (null, cut) = match self {
            Plot::Forest(plot) | Plot::Bars(plot) => (plot.has_null(), plot.cut),
            Plot::Lines(plot) => (false, plot.cut),
            Plot::Heatmap(_) | Plot::Scatter(_) | Plot::Flows(_) | Plot::Passages(_) => (false, false),
        };
        let null = null.then_some("The upright tick is the value under the null.");
        let cut = cut.then_some(
            "Intervals are drawn from 0 to 1, as far as a share can go; the table has them whole.",
        );
        null.into_iter().chain(cut).collect::<Vec<_>>().join(" ")
    }
}

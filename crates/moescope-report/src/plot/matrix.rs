//! A value for each pair of categories, as tables give them.

use super::source::{Source, distinct};
use super::{Quantity, Reading};
use crate::ReportError;

/// A matrix of colours.
pub(crate) struct MatrixPlot {
    /// Names of the columns, from the left.
    pub(crate) columns: Vec<String>,
    /// Names of the rows, from the top.
    pub(crate) rows: Vec<String>,
    /// What the columns are.
    pub(crate) x: Quantity,
    /// What the rows are.
    pub(crate) y: Quantity,
    /// What the colour shows.
    pub(crate) value: Quantity,
    /// One cell for each row of the table; a pair that the table lacks has none.
    pub(crate) cells: Vec<Cell>,
    /// Value of the neutral colour; none for a sequential scale.
    pub(crate) center: Option<f64>,
}

/// One cell.
pub(crate) struct Cell {
    /// Place in [`MatrixPlot::columns`].
    pub(crate) column: usize,
    /// Place in [`MatrixPlot::rows`].
    pub(crate) row: usize,
    /// Value with its interval; the colour shows the value alone, whatever its uncertainty.
    pub(crate) reading: Reading,
    /// Lines for the reader who points at the cell.
    pub(crate) words: Vec<String>,
}

impl MatrixPlot {
    /// Reads three columns; columns and rows of the matrix have the order in which the table first names them.
    pub(crate) fn read(
        source: &Source<'_>,
        x: &str,
        y: &str,
        value: &str,
        center: Option<f64>,
    ) -> Result<MatrixPlot, ReportError> {
        let (columns, across) = distinct(&source.labels(Some(x))?);
        let (rows, down) = distinct(&source.labels(Some(y))?);
        let measured = source.measured(value)?;
        let quantity = measured.quantity();
        let (x, y) = (Quantity::of(source.column(x)?), Quantity::of(source.column(y)?));
        let cell = |row: usize| {
            let reading = measured.reading(row);
            let mut words =
                vec![format!("{} {} · {} {}", y.name, rows[down[row]], x.name, columns[across[row]])];
            words.extend(reading.lines(&quantity));
            Cell { column: across[row], row: down[row], reading, words }
        };
        let cells = (0..across.len()).map(cell).collect();
        Ok(MatrixPlot { cells, columns, rows, x, y, value: quantity, center })
    }

    /// Ends of the colour scale; symmetric about the neutral value of a diverging one.
    ///
    /// A matrix without numbers has the scale from 0 to 1.
    pub(crate) fn scale(&self) -> (f64, f64) {
        let values = || self.cells.iter().map(|c| c.reading.value).filter(|v| v.is_finite());
        let (low, high) = values().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return (0.0, 1.0);
        }
        let Some(center) = self.center else {
            return if low < high { (low, high) } else { (low - 0.5, high + 0.5) };
        };
        let reach = (high - center).abs().max((center - low).abs());
        let reach = if reach > 0.0 { reach } else { 1.0 };
        (center - reach, center + reach)
    }
}

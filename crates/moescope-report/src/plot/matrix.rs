use super::source::{Source, distinct};
use super::{Quantity, Reading};
use crate::ReportError;

/// A matrix of colours.
pub(crate) struct MatrixPlot {
    /// Names of the columns, from the left.
    pub(crate) columns: Vec<String>,
    /// Names of the rows, from the top.
    pub(crate) rows: Vec<String>,
    pub(crate) x: Quantity,
    pub(crate) y: Quantity,
    pub(crate) value: Quantity,
    pub(crate) cells: Vec<Cell>,
    /// Value of the neutral colour; none for a sequential scale.
    pub(crate) center: Option<f64>,
}

/// One cell.
pub(crate) struct Cell {
    pub(crate) column: usize,
    pub(crate) row: usize,
    pub(crate) reading: Reading,
    pub(crate) words: Vec<String>,
}

impl MatrixPlot {
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

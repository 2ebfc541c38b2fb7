//! Estimates one below the other, as tables give them.

use super::source::{Source, distinct};
use super::{Quantity, Reading};
use crate::ReportError;

/// Estimates one below the other: a forest of intervals, or bars in groups.
pub(crate) struct RowPlot {
    /// Names of the rows, from the top.
    pub(crate) rows: Vec<String>,
    /// At most one mark of each series stands in a row, unless the table names a category twice.
    pub(crate) series: Vec<RowSeries>,
    /// What is estimated.
    pub(crate) quantity: Quantity,
    /// Where a line of comparison stands.
    pub(crate) reference: Option<f64>,
    /// Whether an interval is longer than what is drawn of it.
    pub(crate) cut: bool,
}

/// The estimates of one series.
pub(crate) struct RowSeries {
    /// Name; empty when there is only one series.
    pub(crate) name: String,
    /// Row, estimate, and the words for the reader who points at it.
    pub(crate) marks: Vec<(usize, Reading, Vec<String>)>,
}

impl RowPlot {
    /// One row for each row of the table.
    ///
    /// Labels may repeat: two studies of one name stay two rows.
    pub(crate) fn forest(
        source: &Source<'_>,
        label: &str,
        estimate: &str,
        reference: Option<f64>,
    ) -> Result<RowPlot, ReportError> {
        let rows = source.names(Some(label))?;
        let index: Vec<usize> = (0..rows.len()).collect();
        RowPlot::build(source, estimate, (rows, index), None, reference)
    }

    /// One row for each category.
    pub(crate) fn bars(
        source: &Source<'_>,
        x: &str,
        y: &str,
        series: Option<&str>,
    ) -> Result<RowPlot, ReportError> {
        let rows = distinct(&source.names(Some(x))?);
        RowPlot::build(source, y, rows, series, None)
    }

    /// Reads the estimates into series; `index[table row]` is the row of the plot that it belongs to.
    fn build(
        source: &Source<'_>,
        estimate: &str,
        (rows, index): (Vec<String>, Vec<usize>),
        series: Option<&str>,
        reference: Option<f64>,
    ) -> Result<RowPlot, ReportError> {
        let measured = source.measured(estimate)?;
        let mut quantity = measured.quantity();
        // What is compared with a reference is a difference, which has not the range of what it is a difference of.
        quantity.range = quantity.range.filter(|_| reference.is_none());
        let mut cut = false;
        let (names, member) = distinct(&source.names(series)?);
        let empty = |name: String| RowSeries { name, marks: Vec::new() };
        let mut series: Vec<RowSeries> = names.into_iter().map(empty).collect();
        for (row, (&place, &of)) in index.iter().zip(&member).enumerate() {
            let reading = measured.reading(row);
            let mut words = vec![heading(&rows[place], &series[of].name)];
            words.extend(reading.lines(&quantity));
            cut |= reading.is_cut(&quantity);
            series[of].marks.push((place, reading.drawn(&quantity), words));
        }
        Ok(RowPlot { rows, series, quantity, reference, cut })
    }

    /// Whether any estimate is a number.
    pub(crate) fn has_values(&self) -> bool {
        self.marks().any(|(_, reading, _)| reading.value.is_finite())
    }

    /// Whether any estimate has a null to be compared with.
    pub(crate) fn has_null(&self) -> bool {
        self.marks().any(|(_, reading, _)| reading.null.is_finite())
    }

    fn marks(&self) -> impl Iterator<Item = &(usize, Reading, Vec<String>)> {
        self.series.iter().flat_map(|series| &series.marks)
    }

    /// All numbers that the horizontal axis must hold.
    pub(crate) fn extent(&self) -> impl Iterator<Item = f64> {
        self.marks().flat_map(|(_, reading, _)| reading.extent()).chain(self.reference)
    }
}

fn heading(row: &str, series: &str) -> String {
    if series.is_empty() { row.to_owned() } else { format!("{row} · {series}") }
}

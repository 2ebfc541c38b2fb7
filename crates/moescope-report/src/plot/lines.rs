//! Estimates along a numeric axis, as tables give them.

use super::source::{Source, distinct};
use super::{Quantity, Reading};
use crate::ReportError;

/// Estimates along a numeric axis.
pub(crate) struct LinePlot {
    /// What the horizontal axis shows; the unit is that before the logarithm.
    pub(crate) x: Quantity,
    /// What is estimated.
    pub(crate) y: Quantity,
    /// Lines in the order of their first row.
    pub(crate) series: Vec<LineSeries>,
    /// Positions are powers of two: `position = log2(x)`.
    pub(crate) log2_x: bool,
    /// Whether an interval is longer than what is drawn of it.
    pub(crate) cut: bool,
}

/// Up to this many positions have a tick each.
const MOST_TICKS: usize = 12;

/// One line.
pub(crate) struct LineSeries {
    /// Entry of the series column; empty when the figure names none.
    pub(crate) name: String,
    /// Position on the horizontal axis, estimate, words; in the order of the position.
    pub(crate) points: Vec<(f64, Reading, Vec<String>)>,
}

impl LinePlot {
    /// Groups the rows by series and sorts each by position.
    ///
    /// A row without a finite position is left out (with `log2_x`, also one at or below zero); a row without an
    /// estimate stays, since the line must break there.
    pub(crate) fn read(
        source: &Source<'_>,
        x: &str,
        y: &str,
        series: Option<&str>,
        log2_x: bool,
    ) -> Result<LinePlot, ReportError> {
        let (across, measured) = (source.measured(x)?, source.measured(y)?);
        let (quantity, mut cut) = (measured.quantity(), false);
        let (names, member) = distinct(&source.names(series)?);
        let empty = |name: String| LineSeries { name, points: Vec::new() };
        let mut series: Vec<LineSeries> = names.into_iter().map(empty).collect();
        for (row, &of) in member.iter().enumerate() {
            let position = across.reading(row).value;
            let position = if log2_x { position.log2() } else { position };
            if position.is_finite() {
                let reading = measured.reading(row);
                let mut words = vec![source.row_name(row)];
                words.extend(reading.lines(&quantity));
                cut |= reading.is_cut(&quantity);
                series[of].points.push((position, reading.drawn(&quantity), words));
            }
        }
        for line in &mut series {
            line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(LinePlot { x: across.quantity(), y: quantity, series, log2_x, cut })
    }

    /// All positions on the horizontal axis.
    pub(crate) fn positions(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|s| &s.points).map(|(x, _, _)| *x)
    }

    /// The positions themselves as places of the ticks, rising, where they are few; none where they are many or none.
    ///
    /// Between the blocks 1 and 2 there is no block 1.2, so a tick there would name a thing that does not exist.
    pub(crate) fn ticks(&self) -> Option<Vec<f64>> {
        let mut ticks: Vec<f64> = self.positions().collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        (1..=MOST_TICKS).contains(&ticks.len()).then_some(ticks)
    }

    /// All numbers that the vertical axis must hold.
    pub(crate) fn extent(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|s| &s.points).flat_map(|(_, reading, _)| reading.extent())
    }

    /// Whether any estimate has a null to be compared with.
    pub(crate) fn has_null(&self) -> bool {
        self.series.iter().flat_map(|s| &s.points).any(|(_, reading, _)| reading.null.is_finite())
    }

    /// The null of every line, when all lines share it: one value for each position.
    ///
    /// Pairs of position and null. Lines may cover different positions: the longest null must hold those of all
    /// others.
    pub(crate) fn shared_null(&self) -> Option<Vec<(f64, f64)>> {
        let null = |s: &LineSeries| -> Vec<(f64, f64)> {
            s.points.iter().map(|(x, r, _)| (*x, r.null)).filter(|(_, null)| null.is_finite()).collect()
        };
        let longest = self.series.iter().map(null).max_by_key(Vec::len)?;
        let within = |s: &LineSeries| null(s).iter().all(|point| longest.contains(point));
        self.series.iter().all(within).then_some(longest)
    }
}

//! Two estimates against each other, as tables give them.

use super::source::{Source, distinct};
use super::{Quantity, Reading};
use crate::ReportError;

/// Points in the plane.
pub(crate) struct PointPlot {
    /// What stands across.
    pub(crate) x: Quantity,
    /// What stands upward.
    pub(crate) y: Quantity,
    /// Points in groups, in the order of their first row.
    pub(crate) series: Vec<PointSeries>,
    /// Whether to draw the line on which both are equal.
    pub(crate) diagonal: bool,
}

/// The points of one colour.
pub(crate) struct PointSeries {
    /// Entry of the series column; empty when the figure names none.
    pub(crate) name: String,
    /// Both coordinates and the words.
    pub(crate) points: Vec<(Reading, Reading, Vec<String>)>,
}

impl PointPlot {
    /// Reads two measured columns. A row that lacks either value has no place in the plane and is left out.
    pub(crate) fn read(
        source: &Source<'_>,
        x: &str,
        y: &str,
        series: Option<&str>,
        diagonal: bool,
    ) -> Result<PointPlot, ReportError> {
        let (across, up) = (source.measured(x)?, source.measured(y)?);
        let (names, member) = distinct(&source.names(series)?);
        let empty = |name: String| PointSeries { name, points: Vec::new() };
        let mut series: Vec<PointSeries> = names.into_iter().map(empty).collect();
        for (row, &of) in member.iter().enumerate() {
            let (right, above) = (across.reading(row), up.reading(row));
            if right.value.is_finite() && above.value.is_finite() {
                let mut words = vec![source.row_name(row)];
                words.extend(right.lines(&across.quantity()));
                words.extend(above.lines(&up.quantity()));
                let (right, above) = (right.drawn(&across.quantity()), above.drawn(&up.quantity()));
                series[of].points.push((right, above, words));
            }
        }
        Ok(PointPlot { x: across.quantity(), y: up.quantity(), series, diagonal })
    }

    /// Whether any point has an interval in either direction.
    pub(crate) fn has_interval(&self) -> bool {
        let mut points = self.series.iter().flat_map(|s| &s.points);
        points.any(|(x, y, _)| x.has_interval() || y.has_interval())
    }

    /// All numbers that the axis must hold, across or up.
    pub(crate) fn extent(&self, up: bool) -> impl Iterator<Item = f64> {
        let points = self.series.iter().flat_map(|s| &s.points);
        points.flat_map(move |(x, y, _)| if up { y.extent() } else { x.extent() })
    }

    /// Both ends of the line of equality within the values of both axes; none where they do not meet.
    pub(crate) fn diagonal_ends(&self) -> Option<(f64, f64)> {
        let ends = |up| self.extent(up).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (across, above) = (ends(false), ends(true));
        let (from, to) = (across.0.max(above.0), across.1.min(above.1));
        (from < to).then_some((from, to))
    }
}

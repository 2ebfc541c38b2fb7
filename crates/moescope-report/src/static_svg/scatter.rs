//! Still scatters.

use super::WIDTH;
use super::canvas::{Anchor, Canvas};
use super::legend::Legend;
use super::scale::Scale;
use crate::palette::Look;
use crate::plot::{PointPlot, Reading};

/// Points with thin crosses for their intervals.
pub(super) fn draw(plot: &PointPlot) -> Canvas {
    let legend = Legend::new(plot.series.iter().map(|s| s.name.as_str()));
    let (top, left, right) = (legend.height + 8.0, 76.0, WIDTH - 24.0);
    let bottom = top + 320.0;
    let across = Scale::over(plot.extent(false), (left, right));
    let up = Scale::over(plot.extent(true), (bottom, top));

    let mut canvas = Canvas::new(bottom + 46.0);
    legend.draw(&mut canvas, false);
    across.draw_across(&mut canvas, (top, bottom), &plot.x.title());
    up.draw_up(&mut canvas, (left, right), &plot.y.title());
    if let Some((from, to)) = plot.diagonal_ends().filter(|_| plot.diagonal) {
        let end = (across.place(to), up.place(to));
        canvas.line("reference", (across.place(from), up.place(from)), end);
        canvas.text("soft", (end.0 - 6.0, end.1 - 6.0), Anchor::End, "equal");
    }
    for (i, series) in plot.series.iter().enumerate() {
        let look = Look::of(i);
        canvas.begin_series(look.color);
        for (x, y, _) in &series.points {
            draw_cross(&mut canvas, (x, y), (&across, &up));
            canvas.marker(look.marker, (across.place(x.value), up.place(y.value)));
        }
        canvas.end();
    }
    canvas
}

/// The intervals of one point, each only where it has both ends.
fn draw_cross(canvas: &mut Canvas, (x, y): (&Reading, &Reading), (across, up): (&Scale, &Scale)) {
    let center = (across.place(x.value), up.place(y.value));
    if x.has_interval() {
        canvas.line("whisker", (across.place(x.low), center.1), (across.place(x.high), center.1));
    }
    if y.has_interval() {
        canvas.line("whisker", (center.0, up.place(y.low)), (center.0, up.place(y.high)));
    }
}

//! Still line charts.

use super::WIDTH;
use super::canvas::{Anchor, Canvas};
use super::legend::Legend;
use super::scale::Scale;
use crate::palette::Look;
use crate::plot::{LinePlot, LineSeries};

/// Lines with bands.
///
/// Bands lie below their own line but above earlier ones; the order is that of the series.
pub(super) fn draw(plot: &LinePlot) -> Canvas {
    let legend = Legend::new(plot.series.iter().map(|s| s.name.as_str()));
    let (top, left, right) = (legend.height + 8.0, 76.0, WIDTH - 40.0);
    let bottom = top + 260.0;
    let across = match (plot.ticks(), plot.log2_x) {
        (Some(ticks), powers) => Scale::at(ticks, powers, (left, right)),
        (None, true) => Scale::powers_of_two(plot.positions(), (left, right)),
        (None, false) => Scale::over(plot.positions(), (left, right)),
    };
    let up = Scale::over(plot.extent(), (bottom, top));

    let mut canvas = Canvas::new(bottom + 46.0);
    legend.draw(&mut canvas, true);
    across.draw_across(&mut canvas, (top, bottom), &plot.x.title());
    up.draw_up(&mut canvas, (left, right), &plot.y.title());
    for (i, line) in plot.series.iter().enumerate() {
        let look = Look::of(i);
        canvas.begin_series(look.color);
        draw_bands(&mut canvas, line, (&across, &up));
        let points = || line.points.iter().map(|(x, r, _)| (across.place(*x), up.place(r.value)));
        canvas.stroke("line", look.dash, points());
        points().filter(|(_, y)| y.is_finite()).for_each(|point| canvas.marker(look.marker, point));
        canvas.end();
    }
    draw_nulls(&mut canvas, plot, (&across, &up));
    canvas
}

/// One area for each run of points that have an interval; a bar where a run is a single point.
fn draw_bands(canvas: &mut Canvas, line: &LineSeries, (across, up): (&Scale, &Scale)) {
    for run in line.points.chunk_by(|a, b| a.1.has_interval() == b.1.has_interval()) {
        if !run[0].1.has_interval() {
            continue;
        }
        let low = run.iter().map(|(x, r, _)| (across.place(*x), up.place(r.low)));
        let high = run.iter().rev().map(|(x, r, _)| (across.place(*x), up.place(r.high)));
        let class = if run.len() == 1 { "whisker" } else { "band" };
        canvas.area(class, low.chain(high));
    }
}

/// The null that all lines share, once, or that of each line; the word stands at the last point.
fn draw_nulls(canvas: &mut Canvas, plot: &LinePlot, (across, up): (&Scale, &Scale)) {
    let place = |(x, null): &(f64, f64)| (across.place(*x), up.place(*null));
    let lines: Vec<Vec<(f64, f64)>> = match plot.shared_null() {
        Some(points) => vec![points.iter().map(place).collect()],
        None => plot
            .series
            .iter()
            .map(|s| s.points.iter().map(|(x, r, _)| place(&(*x, r.null))).collect())
            .collect(),
    };
    for line in lines {
        canvas.stroke("reference", &[2, 3], line.iter().copied());
        if let Some(&(x, y)) = line.iter().rev().find(|(_, y)| y.is_finite()) {
            canvas.text("soft", (x + 5.0, y + 4.0), Anchor::Start, "null");
        }
    }
}

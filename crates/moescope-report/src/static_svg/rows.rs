//! Still forests and bars.

use super::WIDTH;
use super::canvas::{Anchor, Canvas};
use super::legend::{LETTER, Legend, in_two_lines};
use super::scale::Scale;
use crate::number;
use crate::palette::Look;
use crate::plot::{Reading, RowPlot};

/// Longest line of the label of a row, which has two at most; the table has every label whole.
const LABEL_LETTERS: usize = 38;

/// Estimates one below the other; with `bars`, from a bar that begins at zero.
pub(super) fn draw(plot: &RowPlot, bars: bool) -> Canvas {
    let legend = Legend::new(plot.series.iter().map(|s| s.name.as_str()));
    let top = legend.height + if plot.reference.is_some() { 24.0 } else { 6.0 };
    let pitch = if bars { (14 * plot.series.len() + 14).max(26) as f64 } else { 28.0 };
    let bottom = top + pitch * plot.rows.len() as f64;
    let letters = plot.rows.iter().map(|r| r.chars().count()).max().unwrap_or(0).min(LABEL_LETTERS);
    let left = 16.0 + LETTER * letters as f64;
    let zero = bars.then_some(0.0);
    let scale = Scale::over(plot.extent().chain(zero), (left, WIDTH - 16.0));

    let mut canvas = Canvas::new(bottom + 46.0);
    legend.draw(&mut canvas, false);
    scale.draw_across(&mut canvas, (top, bottom), &plot.quantity.title());
    draw_reference(&mut canvas, plot.reference, &scale, (top, bottom));
    for (i, name) in plot.rows.iter().enumerate() {
        let y = top + pitch * (i as f64 + 0.5) + 4.0;
        let lines = in_two_lines(name, LABEL_LETTERS);
        let first = y - 6.5 * (lines.len() as f64 - 1.0);
        for (line, text) in lines.iter().enumerate() {
            canvas.text("ink", (left - 10.0, first + 13.0 * line as f64), Anchor::End, text);
        }
    }
    for (slot, series) in plot.series.iter().enumerate() {
        let look = Look::of(slot);
        let shift = 14.0 * (slot as f64 - (plot.series.len() as f64 - 1.0) / 2.0);
        canvas.begin_series(look.color);
        for (row, reading, _) in &series.marks {
            let y = top + pitch * (*row as f64 + 0.5) + shift;
            draw_mark(&mut canvas, reading, &scale, y, look.marker, bars);
        }
        canvas.end();
    }
    canvas
}

/// The dashed line of comparison, with its value above the rows.
fn draw_reference(canvas: &mut Canvas, reference: Option<f64>, scale: &Scale, (top, bottom): (f64, f64)) {
    if let Some(reference) = reference {
        let x = scale.place(reference);
        canvas.line("reference", (x, top - 4.0), (x, bottom));
        let label = format!("reference {}", number::round(reference));
        canvas.text("soft", (x, top - 9.0), Anchor::Middle, &label);
    }
}

/// One estimate: bar, whiskers, tick of the null, and the marker on top. What is not finite is left out, part by
/// part.
fn draw_mark(canvas: &mut Canvas, reading: &Reading, scale: &Scale, y: f64, marker: &str, bars: bool) {
    let x = scale.place(reading.value);
    if bars && x.is_finite() {
        let zero = scale.place(0.0);
        canvas.rect("bar", (zero.min(x), y - 5.0), ((x - zero).abs(), 10.0));
    }
    if reading.has_interval() {
        let (low, high) = (scale.place(reading.low), scale.place(reading.high));
        canvas.line("whisker", (low, y), (high, y));
        canvas.line("whisker", (low, y - 3.0), (low, y + 3.0));
        canvas.line("whisker", (high, y - 3.0), (high, y + 3.0));
    }
    if reading.null.is_finite() {
        let null = scale.place(reading.null);
        canvas.line("null", (null, y - 7.0), (null, y + 7.0));
    }
    if x.is_finite() {
        canvas.marker(marker, (x, y));
    }
}

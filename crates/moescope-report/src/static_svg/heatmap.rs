//! Still heatmaps.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::WIDTH;
use super::canvas::{Anchor, Canvas};
use super::legend::{LETTER, shortened};
use crate::number;
use crate::palette::{DIVERGING, Ramp, SEQUENTIAL};
use crate::plot::MatrixPlot;

/// Colours that the picture distinguishes.
const SHADES: f64 = 64.0;

/// Letters of the name of a row, at most: so many that kinds of vectors, tokens and routes stay apart, and half of the width is left for the matrix.
const ROW_LETTERS: usize = 46;

/// A matrix of colours with its scale below.
pub(super) fn draw(plot: &MatrixPlot) -> Canvas {
    let letters = plot.rows.iter().map(|r| r.chars().count()).max().unwrap_or(0).min(ROW_LETTERS);
    let (left, top) = (34.0 + LETTER * letters as f64, 6.0);
    let width = (WIDTH - left - 8.0) / plot.columns.len().max(1) as f64;
    let height = (420.0 / plot.rows.len().max(1) as f64).clamp(4.0, 26.0);
    let bottom = top + height * plot.rows.len() as f64;
    let ramp = if plot.center.is_some() { &DIVERGING } else { &SEQUENTIAL };

    let mut canvas = Canvas::new(bottom + 92.0);
    for (shade, d) in cells(plot, (left, top), (width, height)) {
        canvas.filled(&ramp.color(f64::from(shade) / SHADES), &d);
    }
    draw_names(&mut canvas, plot, (left, top, bottom), (width, height));
    draw_scale(&mut canvas, plot, ramp, bottom + 54.0);
    canvas
}

/// One path for all cells of a shade, so that a large matrix stays a small file.
fn cells(plot: &MatrixPlot, (left, top): (f64, f64), (width, height): (f64, f64)) -> BTreeMap<u32, String> {
    let (low, high) = plot.scale();
    let mut paths: BTreeMap<u32, String> = BTreeMap::new();
    for cell in plot.cells.iter().filter(|cell| cell.reading.value.is_finite()) {
        let shade = ((cell.reading.value - low) / (high - low) * SHADES).round() as u32;
        let (x, y) = (left + width * cell.column as f64, top + height * cell.row as f64);
        let d = paths.entry(shade).or_default();
        let _ = write!(d, "M{x:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z");
    }
    paths
}

/// Names of rows and columns; where there is no room for all, every second, third … is written.
fn draw_names(
    canvas: &mut Canvas,
    plot: &MatrixPlot,
    (left, top, bottom): (f64, f64, f64),
    (width, height): (f64, f64),
) {
    let every = (14.0 / height).ceil() as usize;
    for (i, name) in plot.rows.iter().enumerate().step_by(every) {
        let y = top + height * (i as f64 + 0.5) + 4.0;
        canvas.text("ink", (left - 6.0, y), Anchor::End, &shortened(name, ROW_LETTERS));
    }
    let letters = plot.columns.iter().map(|c| c.chars().count()).max().unwrap_or(1).min(12);
    let every = ((LETTER * letters as f64 + 8.0) / width).ceil().max(1.0) as usize;
    for (i, name) in plot.columns.iter().enumerate().step_by(every) {
        let x = left + width * (i as f64 + 0.5);
        canvas.text("ink", (x, bottom + 15.0), Anchor::Middle, &shortened(name, 12));
    }
    canvas.upward((14.0, (top + bottom) / 2.0), &plot.y.title());
    canvas.text("soft", ((left + WIDTH) / 2.0, bottom + 34.0), Anchor::Middle, &plot.x.title());
}

/// The bar of colours with the values at its ends and the quantity below.
fn draw_scale(canvas: &mut Canvas, plot: &MatrixPlot, ramp: &Ramp, y: f64) {
    let (left, step) = (WIDTH / 2.0 - 96.0, 6.0);
    for i in 0..32 {
        let x = left + step * f64::from(i);
        canvas.filled(&ramp.color(f64::from(i) / 31.0), &format!("M{x:.1} {y:.1}h6v10h-6z"));
    }
    let (low, high) = plot.scale();
    canvas.text("soft", (left - 8.0, y + 9.0), Anchor::End, &number::significant(low, 3));
    canvas.text("soft", (left + 200.0, y + 9.0), Anchor::Start, &number::significant(high, 3));
    canvas.text("soft", (WIDTH / 2.0, y + 27.0), Anchor::Middle, &plot.value.title());
}

//! Alluvial diagrams.

use super::WIDTH;
use super::canvas::{Anchor, Canvas};
use super::legend::{LETTER, shortened};
use crate::number;
use crate::palette::series_of;
use crate::plot::{FlowPlot, Quantity};

/// Height of everything that flows, without the gaps.
const HEIGHT: f64 = 340.0;
/// Free height between two nodes.
const GAP: f64 = 9.0;
/// Width of a node.
const NODE: f64 = 9.0;
/// Longest name of a node.
const LETTERS: usize = 16;

/// Where the nodes of a stage lie.
struct Column {
    x: f64,
    /// Upper end and height of each node.
    nodes: Vec<(f64, f64)>,
}

/// Stages from the left, nodes from the top, streams as bands in the colour of the node that they leave.
pub(super) fn draw(plot: &FlowPlot) -> Canvas {
    let (columns, bottom) = places(plot);
    let mut canvas = Canvas::new(bottom + 46.0);
    draw_streams(&mut canvas, plot, &columns);
    for (stage, column) in plot.stages.iter().zip(&columns) {
        canvas.text("soft", (column.x + NODE / 2.0, 12.0), Anchor::Middle, &stage.name);
        for (place, (node, &(top, height))) in stage.nodes.iter().zip(&column.nodes).enumerate() {
            canvas.begin_series(color(place, &node.name));
            let words = [node.name.clone(), told(node.size, &plot.quantity)];
            canvas.telling("node", &rectangle((column.x, top), (NODE, height)), &words);
            canvas.end();
        }
    }
    draw_names(&mut canvas, plot, &columns);
    canvas.text("soft", (WIDTH / 2.0, bottom + 34.0), Anchor::Middle, &plot.quantity.title());
    canvas
}

/// Places of all nodes, and the lower end of the lowest.
fn places(plot: &FlowPlot) -> (Vec<Column>, f64) {
    let total = |nodes: &[crate::plot::Node]| nodes.iter().map(|node| node.size).sum::<f64>();
    let most = plot.stages.iter().map(|stage| total(&stage.nodes)).fold(f64::MIN_POSITIVE, f64::max);
    let letters = |stage: usize| {
        let names = plot.stages.get(stage).map_or(&[][..], |stage| &stage.nodes);
        names.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).min(LETTERS) as f64
    };
    let last = plot.stages.len().saturating_sub(1);
    let (left, right) = (8.0 + LETTER * letters(0), WIDTH - 18.0 - LETTER * letters(last));
    let step = (right - left) / last.max(1) as f64;
    let mut bottom: f64 = 0.0;
    let mut columns = Vec::new();
    for (index, stage) in plot.stages.iter().enumerate() {
        let mut top = 24.0;
        let mut nodes = Vec::new();
        for node in &stage.nodes {
            let height = HEIGHT * node.size / most;
            nodes.push((top, height));
            top += height + GAP;
        }
        bottom = bottom.max(top - GAP);
        columns.push(Column { x: left + step * index as f64, nodes });
    }
    (columns, bottom)
}

/// Bands leave and reach their nodes from the top in the order of the table.
fn draw_streams(canvas: &mut Canvas, plot: &FlowPlot, columns: &[Column]) {
    let tops = || columns.iter().map(|column| column.nodes.iter().map(|&(top, _)| top).collect());
    let (mut leaves, mut reaches): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (tops().collect(), tops().collect());
    for stream in &plot.streams {
        let (here, there) = (&columns[stream.stage], &columns[stream.stage + 1]);
        let node = &plot.stages[stream.stage].nodes[stream.from];
        let height = here.nodes[stream.from].1 * stream.size / node.size;
        let (start, end) =
            (&mut leaves[stream.stage][stream.from], &mut reaches[stream.stage + 1][stream.to]);
        let d = band((here.x + NODE, *start), (there.x, *end), height);
        (*start, *end) = (*start + height, *end + height);
        canvas.begin_series(color(stream.from, &node.name));
        canvas.telling("stream", &d, &stream.words);
        canvas.end();
    }
}

/// A band of one height from one place to another, level at both ends.
fn band((x1, y1): (f64, f64), (x2, y2): (f64, f64), height: f64) -> String {
    let middle = (x1 + x2) / 2.0;
    let (low1, low2) = (y1 + height, y2 + height);
    format!(
        "M{x1:.1} {y1:.1}C{middle:.1} {y1:.1} {middle:.1} {y2:.1} {x2:.1} {y2:.1}V{low2:.1}C{middle:.1} {low2:.1} {middle:.1} {low1:.1} {x1:.1} {low1:.1}Z"
    )
}

fn rectangle((x, y): (f64, f64), (width, height): (f64, f64)) -> String {
    format!("M{x:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z")
}

/// Names beside their nodes: of the first stage on the left, of all others on the right. Where two would touch, the lower is left
/// out; it is told on hover.
fn draw_names(canvas: &mut Canvas, plot: &FlowPlot, columns: &[Column]) {
    for (index, (stage, column)) in plot.stages.iter().zip(columns).enumerate() {
        let mut free = f64::MIN;
        for (node, &(top, height)) in stage.nodes.iter().zip(&column.nodes) {
            let y = top + height / 2.0 + 4.0;
            if y - 11.0 < free {
                continue;
            }
            free = y + 1.0;
            let (x, anchor) = match index {
                0 => (column.x - 5.0, Anchor::End),
                _ => (column.x + NODE + 5.0, Anchor::Start),
            };
            canvas.text("ink", (x, y), anchor, &shortened(&node.name, LETTERS));
        }
    }
}

fn told(size: f64, quantity: &Quantity) -> String {
    format!("{}: {} {}", quantity.name, number::significant(size, 3), quantity.unit)
}

/// The colour of a node by its place; what is no single entry is grey.
fn color(place: usize, name: &str) -> usize {
    series_of((!name.starts_with("other")).then_some(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_is_level_where_it_begins_and_ends() {
        let path = band((0.0, 10.0), (100.0, 30.0), 5.0);
        assert_eq!(path, "M0.0 10.0C50.0 10.0 50.0 30.0 100.0 30.0V35.0C50.0 35.0 50.0 15.0 0.0 15.0Z");
    }
}

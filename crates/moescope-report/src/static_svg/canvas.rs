//! Elements of an SVG, with positions rounded to a tenth of a unit.

use std::fmt::Write;

use super::WIDTH;
use crate::html::Text;

/// An SVG under construction; coordinates in its own units, the origin at the upper left.
pub(super) struct Canvas {
    height: f64,
    body: String,
}

/// Where a text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// An empty picture of this height and of the width of all pictures.
    pub(super) fn new(height: f64) -> Canvas {
        Canvas { height, body: String::new() }
    }

    /// Adds elements; writing to a text does not fail.
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(element);
    }

    /// A straight line; both ends must be finite. Classes are those of the page's style sheet.
    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.add(format_args!("<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>"));
    }

    /// A text on one line, with its base line at `y`.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = Text(text);
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// The name of a vertical axis, written upwards.
    pub(super) fn upward(&mut self, (x, y): (f64, f64), text: &str) {
        let text = Text(text);
        self.add(format_args!(
            "<text class=\"soft\" transform=\"translate({x:.1} {y:.1})rotate(-90)\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    /// A rectangle by its upper left corner and its size, which is not negative.
    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64)) {
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\"/>"
        ));
    }

    /// A path with a fill of its own.
    pub(super) fn filled(&mut self, fill: &str, d: &str) {
        self.add(format_args!("<path fill=\"{fill}\" d=\"{d}\"/>"));
    }

    /// An area with words for the reader who points at it, one line each.
    pub(super) fn telling(&mut self, class: &str, d: &str, words: &[String]) {
        let words = words.join("\n");
        let words = Text(&words);
        self.add(format_args!("<path class=\"{class}\" d=\"{d}\"><title>{words}</title></path>"));
    }

    /// A stroke through the points; a pair that is not a number breaks it.
    pub(super) fn stroke(&mut self, class: &str, dash: &[u32], points: impl Iterator<Item = (f64, f64)>) {
        let d = polyline(points);
        let dash = dash.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        self.add(format_args!("<path class=\"{class}\" stroke-dasharray=\"{dash}\" d=\"{d}\"/>"));
    }

    /// A closed area.
    pub(super) fn area(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let d = polyline(points);
        self.add(format_args!("<path class=\"{class}\" d=\"{d}Z\"/>"));
    }

    /// A marker of the palette about a point.
    pub(super) fn marker(&mut self, marker: &str, (x, y): (f64, f64)) {
        let class = if marker.starts_with("empty") { "mark hollow" } else { "mark" };
        match marker {
            "circle" | "emptyCircle" => {
                self.add(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"));
            }
            "rect" | "emptyRect" => self.rect(class, (x - 3.5, y - 3.5), (7.0, 7.0)),
            "triangle" => {
                self.area(class, [(x, y - 4.5), (x + 4.5, y + 3.5), (x - 4.5, y + 3.5)].into_iter())
            }
            _ => self.area(class, [(x, y - 5.0), (x + 5.0, y), (x, y + 5.0), (x - 5.0, y)].into_iter()),
        }
    }

    /// What follows has the colour of a series, until [`Canvas::end`].
    pub(super) fn begin_series(&mut self, color: usize) {
        self.add(format_args!("<g style=\"color:var(--series-{color})\">"));
    }

    /// Ends what [`Canvas::begin_series`] began.
    pub(super) fn end(&mut self) {
        self.body.push_str("</g>");
    }

    /// The picture as one element; readers who hear the page get the description in its place.
    pub(super) fn finish(self, description: &str) -> String {
        let (height, body) = (self.height, self.body);
        let label = Text(description);
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\">{body}</svg>\n")
    }
}

/// Path data through the points; after a pair that is not a number, a new part begins.
fn polyline(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    let mut pen_down = false;
    for (x, y) in points {
        if x.is_finite() && y.is_finite() {
            let _ = write!(d, "{}{x:.1} {y:.1}", if pen_down { 'L' } else { 'M' });
        }
        pen_down = x.is_finite() && y.is_finite();
    }
    d
}

//! The picture of the curves: small panels side by side, one for each swept size.

use std::fmt::Write;

use super::{Panel, Point, Rates};

/// Size of a panel and the space around its axes, in pixels.
const PANEL: (f64, f64) = (330.0, 250.0);
const LEFT: f64 = 52.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const RIGHT: f64 = 14.0;
const ACROSS: usize = 3;

/// Training and forward: colours that are told apart by those who see few, on light and dark ground.
const SERIES: [(&str, &str); 2] = [("train", "#0072b2"), ("forward", "#e69f00")];

/// All panels as one SVG with text in the page's own colour where it is embedded, grey elsewhere.
pub(super) fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(ACROSS);
    let (width, height) = (PANEL.0 * ACROSS as f64, PANEL.1 * rows as f64 + 24.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (index, (name, colour)) in SERIES.iter().enumerate() {
        let x = LEFT + 90.0 * index as f64;
        let _ = writeln!(
            out,
            "<circle cx=\"{x}\" cy=\"12\" r=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"16\" fill=\"#333333\">{name}</text>",
            x + 9.0
        );
    }
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = (index % ACROSS, index / ACROSS);
        let _ = writeln!(
            out,
            "<g transform=\"translate({},{})\">",
            PANEL.0 * column as f64,
            24.0 + PANEL.1 * row as f64
        );
        draw(&mut out, panel);
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

/// One panel: the vertical axis starts at zero, so lengths compare.
fn draw(out: &mut String, panel: &Panel) {
    let value = |rates: Rates| if panel.by_wall { rates.wall } else { rates.tokens };
    let highest = panel.points.iter().flat_map(|p| [value(p.train), value(p.forward)]).fold(1.0, f64::max);
    let step = round_step(highest / 4.0);
    let top = (highest / step).ceil() * step;
    let (right, bottom) = (PANEL.0 - RIGHT, PANEL.1 - BOTTOM);
    let y = |value: f64| bottom - (bottom - TOP) * value / top;
    let last = (panel.points.len().max(2) - 1) as f64;
    let x = |index: usize| LEFT + 12.0 + (right - LEFT - 24.0) * index as f64 / last;
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\" fill=\"#333333\">{}</text>",
        panel.title
    );
    let mut tick = 0.0;
    while tick <= top + step / 2.0 {
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#555555\">{tick}</text>",
            y(tick),
            LEFT - 5.0,
            y(tick) + 4.0
        );
        tick += step;
    }
    for (index, point) in panel.points.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>",
            x(index),
            bottom + 15.0,
            point.at
        );
    }
    let unit = if panel.by_wall { "tokens per second" } else { "tokens per core-second" };
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#333333\">{}</text>\
         <text transform=\"translate(11,{:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"#333333\">{unit}</text>",
        (LEFT + right) / 2.0,
        bottom + 33.0,
        panel.axis,
        (TOP + bottom) / 2.0
    );
    let rates: [fn(&Point) -> Rates; 2] = [|point| point.train, |point| point.forward];
    for ((name, colour), of) in SERIES.iter().zip(rates) {
        let places: Vec<(f64, f64, &Point)> =
            panel.points.iter().enumerate().map(|(index, p)| (x(index), y(value(of(p))), p)).collect();
        let line: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y, point) in places {
            let rates = of(point);
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{name}, {}: {:.0} {unit}, {:.0} % of the \
                 largest product's rate</title></circle>",
                point.at,
                value(rates),
                100.0 * rates.fraction
            );
        }
    }
}

/// The next of 1, 2, 5, 10, … at or above a number.
fn round_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= wanted)
        .unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([0.9, 1.0, 1.4, 30.0, 640.0].map(round_step), [1.0, 1.0, 2.0, 50.0, 1000.0]);
    }
}

use moescope_base::{Column, FigureKind, Table};
use moescope_report::Section;

use super::figure;

/// Markup in labels, missing numbers, no rows, one row, long names, forty series.
pub(super) fn section() -> Section {
    let forest = |label: &str| FigureKind::Forest {
        label: label.into(),
        estimate: "value".into(),
        reference: Some(0.0),
    };
    let lines = |series: Option<&str>| FigureKind::Lines {
        x: "step".into(),
        y: "value".into(),
        series: series.map(str::to_owned),
        log2_x: false,
    };
    let cells =
        FigureKind::Heatmap { x: "token".into(), y: "token".into(), value: "value".into(), center: None };
    let bars = FigureKind::Bars { x: "token".into(), y: "value".into(), series: None };
    Section {
        id: "hostile \"section\"".into(),
        heading: "Data that tries to break the page".into(),
        prose: vec!["</p><script>document.title = 'broken'</script>".into()],
        figures: vec![
            figure(
                "tokens",
                "Labels <script>alert(1)</script> are text",
                "And so are captions: <b>",
                "tokens",
                forest("token"),
            ),
            figure("bars", "Bars with missing numbers", "", "tokens", bars),
            figure("cells", "A matrix with one row for each hostile name", "", "tokens", cells),
            figure("none", "A table without rows", "", "empty", lines(None)),
            figure("one", "A table with one row", "", "one", lines(None)),
            figure("many", "Forty series", "", "many", lines(Some("series"))),
        ],
        tables: vec![tokens(), empty(), one(), many()],
        limits: vec!["<img src=x onerror=alert(1)>".into()],
        ..Section::default()
    }
}

fn tokens() -> Table {
    let labels = [
        "<script>document.title = 'broken'</script>",
        "@ink",
        "a very long label that goes on and on, as labels from a corpus do, without any regard for the page",
        "\u{202e}right to left",
        "\" onmouseover=\"alert(1)",
        "{a} {b} %s ${x}",
        "",
        "line\nbreak\ttab\u{0}",
    ];
    let value = vec![1.0, f64::NAN, -2.5, f64::INFINITY, 1e-9, 0.0, 3.0, -0.4];
    let low = vec![0.5, f64::NAN, f64::NEG_INFINITY, 0.0, -1e-9, 0.0, f64::NAN, -0.9];
    let high = vec![1.5, f64::NAN, 0.0, f64::INFINITY, 2e-9, 0.0, 4.0, 0.1];
    let [low, high] = Column::interval("value", "", "95 %", low, high);
    let labels = labels.iter().map(|l| (*l).to_owned()).collect();
    let columns = vec![
        Column::key("token", "text from a corpus", labels),
        Column::estimate("value", "", "anything", value),
        low,
        high,
    ];
    Table::new("tokens", "Tokens </caption><script>alert(1)</script>", "<b>by hand</b>", columns)
        .expect("the columns fit together")
}

fn empty() -> Table {
    let columns = vec![
        Column::integer_key("step", "", "step", vec![]),
        Column::estimate("value", "nats", "anything", vec![]),
    ];
    Table::new("empty", "No rows", "", columns).expect("the columns fit together")
}

fn one() -> Table {
    let [low, high] = Column::interval("value", "nats", "95 %", vec![1.5], vec![2.5]);
    let columns = vec![
        Column::integer_key("step", "", "step", vec![7]),
        Column::estimate("value", "nats", "anything", vec![2.0]),
        low,
        high,
    ];
    Table::new("one", "One row", "", columns).expect("the columns fit together")
}

fn many() -> Table {
    let (mut step, mut series, mut value) = (Vec::new(), Vec::new(), Vec::new());
    for s in 0..40 {
        for t in 0..12_i64 {
            step.push(t * 1000);
            series.push(format!("expert {s}"));
            // A gap in every line shows that missing numbers break it.
            value.push(if t == 6 { f64::NAN } else { f64::from(s) * 0.1 + (t as f64 * 0.5).sin() });
        }
    }
    let columns = vec![
        Column::integer_key("step", "optimiser steps", "step", step),
        Column::key("series", "which expert", series),
        Column::estimate("value", "nats", "anything", value),
    ];
    Table::new("many", "Forty series", "", columns).expect("the columns fit together")
}

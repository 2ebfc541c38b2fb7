use moescope_base::{Column, Figure, FigureKind, Table};

use super::*;

fn table(value: Vec<f64>) -> Table {
    let rows = value.len();
    let ends = |by: f64| value.iter().map(|v| v + by).collect();
    let [low, high] = Column::interval("value", "nats", "95 %", ends(-1.0), ends(1.0));
    let columns = vec![
        Column::integer_key("place", "", "where", (1..=rows as i64).collect()),
        Column::integer_key("stage", "", "one", vec![1; rows]),
        Column::integer_key("next", "", "two", vec![2; rows]),
        Column::key("name", "what", (0..rows).map(|i| format!("<{i}>")).collect()),
        Column::null("value", "nats", "nothing", vec![0.0; rows]),
        Column::estimate("value", "nats", "how much", value),
        low,
        high,
    ];
    Table::new("t", "", "", columns).unwrap()
}

fn kinds() -> Vec<FigureKind> {
    let (x, y, name) = (|| "place".to_owned(), || "value".to_owned(), || "name".to_owned());
    vec![
        FigureKind::Forest { label: name(), estimate: y(), reference: Some(0.0) },
        FigureKind::Bars { x: x(), y: y(), series: Some(name()) },
        FigureKind::Lines { x: x(), y: y(), series: None, log2_x: true },
        FigureKind::Heatmap { x: x(), y: name(), value: y(), center: Some(0.0) },
        FigureKind::Scatter { x: x(), y: y(), series: Some(name()), diagonal: true },
        FigureKind::Flows {
            stage: "stage".into(),
            from: name(),
            next_stage: "next".into(),
            to: name(),
            value: y(),
        },
    ]
}

fn drawn(kind: FigureKind, value: Vec<f64>) -> Option<String> {
    let figure =
        Figure { id: "f".into(), title: String::new(), caption: String::new(), table: "t".into(), kind };
    picture(&Plot::read(&figure, &table(value)).unwrap(), "a < b")
}

#[test]
fn every_kind_draws_without_a_coordinate_that_is_no_number() {
    for kind in kinds() {
        let svg = drawn(kind, vec![1.0, f64::NAN, -2.0, f64::INFINITY, 1e-300]).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("\"inf"), "{svg}");
        assert!(!svg.contains("<0>"), "labels are escaped");
        assert!(svg.contains("aria-label=\"a &lt; b\""));
    }
}

#[test]
fn nothing_is_drawn_of_nothing() {
    for kind in kinds() {
        assert!(drawn(kind.clone(), vec![]).is_none());
        assert!(drawn(kind, vec![f64::NAN, f64::NAN]).is_none());
    }
}

#[test]
fn one_row_is_enough() {
    assert!(kinds().into_iter().all(|kind| drawn(kind, vec![3.0]).is_some()));
}

#[test]
fn a_line_breaks_where_an_estimate_is_missing() {
    let kind = FigureKind::Lines { x: "place".into(), y: "value".into(), series: None, log2_x: false };
    let svg = drawn(kind, vec![1.0, 2.0, f64::NAN, 3.0, 4.0]).unwrap();
    let line = svg.split("class=\"line\"").nth(1).and_then(|s| s.split(" d=\"").nth(1)).unwrap();
    let path = line.split('"').next().unwrap();
    assert_eq!(path.matches('M').count(), 2, "{path}");
}

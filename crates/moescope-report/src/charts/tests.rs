use moescope_base::{Column, Figure, FigureKind, Table};

use super::*;

/// Two series at two places, with interval and null; one estimate is missing.
fn table() -> Table {
    let [low, high] =
        Column::interval("loss", "nats", "95 %", vec![1.0, 2.0, 3.0, 4.0], vec![2.0, 3.0, 4.0, 5.0]);
    let text = |entries: [&str; 4]| entries.map(str::to_owned).to_vec();
    let columns = vec![
        Column::integer_key("experts", "experts", "how many", vec![1, 8, 1, 8]),
        Column::key("arm", "router", text(["hash", "hash", "<b>", "<b>"])),
        Column::estimate("loss", "nats", "validation loss", vec![1.5, 2.5, f64::NAN, 4.5]),
        low,
        high,
        Column::observations("loss", "seeds", vec![5; 4]),
        Column::null("loss", "nats", "shuffled", vec![0.5; 4]),
        Column::p_value("loss", "paired t", vec![0.0001, 0.02, f64::NAN, 1.0]),
    ];
    Table::new("t", "", "", columns).unwrap()
}

fn chart(kind: FigureKind) -> Chart {
    let figure =
        Figure { id: "f".into(), title: String::new(), caption: String::new(), table: "t".into(), kind };
    Chart::of(&Plot::read(&figure, &table()).unwrap()).unwrap()
}

fn shown(kind: FigureKind) -> String {
    serde_json::to_string_pretty(&chart(kind).option).unwrap()
}

#[test]
fn forest() {
    let kind = FigureKind::Forest { label: "arm".into(), estimate: "loss".into(), reference: Some(0.0) };
    insta::assert_snapshot!(shown(kind));
}

#[test]
fn bars() {
    let kind = FigureKind::Bars { x: "experts".into(), y: "loss".into(), series: Some("arm".into()) };
    insta::assert_snapshot!(shown(kind));
}

#[test]
fn lines() {
    let (x, y, series) = ("experts".into(), "loss".into(), Some("arm".into()));
    insta::assert_snapshot!(shown(FigureKind::Lines { x, y, series, log2_x: true }));
}

#[test]
fn heatmap() {
    let (x, y, value) = ("experts".into(), "arm".into(), "loss".into());
    insta::assert_snapshot!(shown(FigureKind::Heatmap { x, y, value, center: Some(2.0) }));
}

#[test]
fn scatter() {
    let (x, y, series) = ("experts".into(), "loss".into(), Some("arm".into()));
    insta::assert_snapshot!(shown(FigureKind::Scatter { x, y, series, diagonal: true }));
}

/// The page replaces stand-ins under four keys only; a label that looks like one must stay under others.
#[test]
fn labels_never_stand_where_the_page_puts_functions() {
    fn walk(value: &Value, stand_ins: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, stand_ins)),
            Value::Object(fields) => {
                for (key, field) in fields {
                    let replaced =
                        ["color", "borderColor", "formatter", "renderItem"].contains(&key.as_str());
                    stand_ins.extend(field.as_str().filter(|_| replaced).map(str::to_owned));
                    walk(field, stand_ins);
                }
            }
            _ => {}
        }
    }
    let mut table = table();
    let arms = Column::key("arm", "router", vec!["@words".to_owned(); 4]);
    let columns = table.columns().iter().map(|c| if c.name == "arm" { arms.clone() } else { c.clone() });
    table = Table::new("t", "", "", columns.collect()).unwrap();
    let (x, y, series) = ("arm".into(), "loss".into(), Some("arm".into()));
    let kind = FigureKind::Bars { x, y, series };
    let figure =
        Figure { id: "f".into(), title: String::new(), caption: String::new(), table: "t".into(), kind };
    let option = Chart::of(&Plot::read(&figure, &table).unwrap()).unwrap().option;
    let mut stand_ins = Vec::new();
    walk(&option, &mut stand_ins);
    assert_eq!(stand_ins.iter().filter(|s| *s == "@words").count(), 1, "{stand_ins:?}");
}

#[test]
fn a_diverging_scale_is_symmetric() {
    let (x, y, value) = ("experts".into(), "arm".into(), "loss".into());
    let option = chart(FigureKind::Heatmap { x, y, value, center: Some(2.0) }).option;
    assert_eq!((&option["visualMap"]["min"], &option["visualMap"]["max"]), (&json!(-0.5), &json!(4.5)));
}

//! What the tables of a dictionary show, as a sentence and as pictures.

use moescope_base::{Figure, FigureKind, Table};

use super::measures::Measured;

/// The measures in a sentence, each beside its null.
pub(super) fn sentence(found: &Measured) -> String {
    let measure = |name: &str| found.measures.iter().find(|measure| measure.name == name);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let beside = |null: Option<f64>, what: &str| null.map(|null| format!("{} {what}", percent(null)));
    let mut parts = Vec::new();
    if let Some(explained) = measure("explained variance") {
        let nulls =
            [beside(explained.null, "of Gaussian rows"), beside(explained.random, "by random directions")];
        let nulls: Vec<String> = nulls.into_iter().flatten().collect();
        parts.push(format!(
            "It explains {} of the variance ({})",
            percent(explained.value),
            nulls.join(", ")
        ));
    }
    if let Some(recovered) = measure("loss recovered, from the mean") {
        let random = beside(recovered.random, "with random directions");
        let random = random.map_or_else(String::new, |random| format!(" ({random})"));
        parts.push(format!(
            "{} of the loss comes back when what it writes is put in{random}",
            percent(recovered.value)
        ));
    }
    if parts.is_empty() { String::new() } else { format!("{}.", parts.join("; ")) }
}

/// The pictures of a table.
pub(super) fn of(table: &Table) -> Vec<Figure> {
    match table.name() {
        "densities" => vec![densities(table)],
        _ => Vec::new(),
    }
}

/// How many features there are of each density.
fn densities(table: &Table) -> Figure {
    let number = |column: &str, row: usize| table.column(column).and_then(|column| column.data.number(row));
    let sum = |holds: &dyn Fn(f64) -> bool| {
        let rows = (0..table.rows()).filter(|row| number("from", *row).is_some_and(holds));
        rows.filter_map(|row| number("features", row)).sum::<f64>()
    };
    let (often, all) = (sum(&|from| from >= 0.01), sum(&|_| true));
    Figure {
        id: "densities".into(),
        title: format!("{often} of {all} features are active in one row of a hundred or more"),
        caption: "Features by the share of rows in which they are active.".into(),
        table: table.name().into(),
        kind: FigureKind::Bars { x: "density".into(), y: "features".into(), series: None },
    }
}

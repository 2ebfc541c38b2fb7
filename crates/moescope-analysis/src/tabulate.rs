//! Columns that tables of several instruments share.

use moescope_base::Column;

use crate::statistics::{Bootstrap, LEAST_UNITS};

/// Labels of labelled results.
pub(crate) fn labels<Result>(results: &[(String, Result)]) -> Vec<String> {
    results.iter().map(|(label, _)| label.clone()).collect()
}

/// The column `name`, its interval and the number of documents behind it.
///
/// Where documents are too few for an interval, its ends are absent, and the description says so.
pub(crate) fn bootstrap_columns(name: &str, unit: &str, meaning: &str, values: &[Bootstrap]) -> Vec<Column> {
    let of = |pick: fn(&Bootstrap) -> f64| values.iter().map(pick).collect::<Vec<f64>>();
    let how = match values.iter().any(|b| b.units < LEAST_UNITS) {
        true => format!("bootstrap over documents, absent where they are fewer than {LEAST_UNITS}"),
        false => "bootstrap over documents".into(),
    };
    let [low, high] = Column::interval(name, unit, &how, of(|b| b.low), of(|b| b.high));
    let documents = values.iter().map(|b| b.units as i64).collect();
    vec![
        Column::estimate(name, unit, meaning, of(|b| b.estimate)),
        low,
        high,
        Column::observations(name, "documents", documents),
    ]
}

/// The key column of tables that have a row for the stream after each block.
pub(crate) fn layers_after(layers: impl Iterator<Item = usize>) -> Column {
    Column::integer_key(
        "layer",
        "",
        "after this block, counted from 0",
        layers.map(|layer| layer as i64).collect(),
    )
}

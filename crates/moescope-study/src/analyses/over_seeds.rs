//! Tables of one instrument on many models as one table over seeds.

use std::collections::{BTreeMap, BTreeSet};

use moescope_base::{Column, ColumnData, ColumnRole, Table};

use crate::StudyError;
use crate::tabulate::Estimates;

/// The tables of the same name of one family: one for each seed.
pub(super) struct OfFamily<'a> {
    /// Name of the family, as the runs bear it.
    pub(super) family: String,
    /// Its tables.
    pub(super) tables: Vec<&'a Table>,
}

/// Columns that name what one training has made. Expert 3 of one model is not expert 3 of another: over these, means are taken.
const OF_ONE_TRAINING: [&str; 13] = [
    "expert",
    "next_expert",
    "partner",
    "neuron",
    "head",
    "number",
    "path",
    "pair",
    "sender",
    "receiver",
    "component",
    "checkpoint",
    "step",
];

/// Columns of p-values that are corrected within a table.
const CORRECTED: [&str; 3] = ["p_holm", "corrected", "spread_holm"];

/// Whether the entries of a key mean the same in every model.
///
/// Numbers called `first` and `second` are layers but in tables that have the layer beside them, where they are experts; a feature with a number is
/// one of a dictionary, one with a name is not; `other` is a model where models are compared.
fn comparable(table: &Table, column: &Column, compares: bool) -> bool {
    let numbered = matches!(column.data, ColumnData::Integer(_));
    let of_experts = numbered && table.column("layer").is_some();
    match column.name.as_str() {
        "first" | "second" => !of_experts,
        "feature" => !numbered,
        "other" => !compares,
        name => !OF_ONE_TRAINING.contains(&name),
    }
}

/// The columns that name a row: the keys, and where these do not tell rows apart, as along a curve, the first number without a null or an interval that
/// does. None if none does.
fn names(table: &Table) -> Option<Vec<&Column>> {
    let of = |role: ColumnRole| table.columns().iter().filter(move |column| column.role == role);
    let keys: Vec<&Column> = of(ColumnRole::Key).collect();
    let apart = |columns: &[&Column]| {
        let label = |row: usize| columns.iter().map(|c| c.data.label(row)).collect::<Vec<String>>();
        (0..table.rows()).map(label).collect::<BTreeSet<_>>().len() == table.rows()
    };
    if apart(&keys) {
        return Some(keys);
    }
    let alone = |column: &&Column| {
        table.companion(ColumnRole::Low, &column.name).is_none()
            && table.companion(ColumnRole::Null, &column.name).is_none()
            && !matches!(column.data, ColumnData::Text(_))
    };
    let along = of(ColumnRole::Estimate).filter(alone);
    along.map(|column| [keys.as_slice(), &[column]].concat()).find(|columns| apart(columns))
}

/// The entry of a row, with the number of an expert or a head left out, of which the layer stays: `expert 1:*`, `blocks.0.mlp.experts.*.hook_out`.
fn entry(column: &Column, row: usize) -> String {
    let entry = column.data.label(row);
    for word in [".experts.", "expert ", "head "] {
        let Some((before, after)) = entry.split_once(word) else { continue };
        let length = after.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(after.len());
        let (number, rest) = after.split_at(length);
        if !number.is_empty() {
            let layer = number.rsplit_once(':').map_or_else(String::new, |(layer, _)| format!("{layer}:"));
            return format!("{before}{word}{layer}*{rest}");
        }
    }
    entry
}

/// One row for each family and each place that all models have, such as a layer: mean over seeds of the mean over what only one model
/// has, such as its experts, with t-interval, number of seeds and mean null.
///
/// Of instruments that compare models there is no interval: each model is in two comparisons, so that these are not independent.
///
/// `None` if no table has a number, they hold running text, or nothing tells their rows apart.
///
/// # Errors
/// If the columns make no table.
pub(super) fn over_seeds(
    name: &str,
    families: &[OfFamily<'_>],
    compares: bool,
) -> Result<Option<Table>, StudyError> {
    let Some(first) = families.iter().flat_map(|family| &family.tables).next() else { return Ok(None) };
    // Texts that are shown piece by piece are not the same ones in any two models.
    if first.column("passage").is_some() {
        return Ok(None);
    }
    let Some(named) = names(first) else { return Ok(None) };
    let (keys, averaged): (Vec<&Column>, Vec<&Column>) =
        named.into_iter().partition(|column| comparable(first, column, compares));
    let rows = rows(families, &keys);
    let mut columns = vec![Column::key(
        "family",
        "kind of model",
        rows.iter().map(|(family, _)| families[*family].family.clone()).collect(),
    )];
    for (place, key) in keys.iter().enumerate() {
        columns.push(key_column(key, rows.iter().map(|(_, group)| group[place].clone()).collect()));
    }
    let before = columns.len();
    // Nor is the mean of corrected p-values a number of anything.
    let left_out = |column: &Column| {
        keys.iter().any(|key| key.name == column.name) || CORRECTED.contains(&column.name.as_str())
    };
    for estimate in first.columns().iter().filter(|c| c.role == ColumnRole::Estimate && !left_out(c)) {
        columns.extend(summary((families, compares), &keys, &rows, estimate)?);
    }
    if columns.len() == before {
        return Ok(None);
    }
    let over = match averaged.is_empty() {
        true => String::new(),
        false => {
            let names: Vec<&str> = averaged.iter().map(|column| column.name.as_str()).collect();
            format!(", each the mean over {}", names.join(", "))
        }
    };
    let how = match compares {
        true => "mean over pairs of neighbouring seeds; no interval, since each model is in two pairs",
        false => "mean and 95 % t-interval over seeds",
    };
    let method = format!(
        "One value for each seed{over}; {how}. Intervals within a model are in its own table. {}",
        first.method()
    );
    Ok(Some(Table::new(name, first.title(), method, columns)?))
}

/// Family and entries of the comparable keys: the rows in the order of families and tables.
type Row = (usize, Vec<String>);

fn rows(families: &[OfFamily<'_>], keys: &[&Column]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut seen: BTreeSet<Row> = BTreeSet::new();
    for (place, family) in families.iter().enumerate() {
        for table in &family.tables {
            for row in (0..table.rows()).map(|row| (place, group(table, keys, row))) {
                if seen.insert(row.clone()) {
                    rows.push(row);
                }
            }
        }
    }
    rows
}

/// The entries of the comparable keys in a row.
fn group(table: &Table, keys: &[&Column], row: usize) -> Vec<String> {
    keys.iter().map(|key| table.column(&key.name).map_or_else(String::new, |c| entry(c, row))).collect()
}

/// A key as it was: numbers stay numbers, so that they make an axis.
fn key_column(key: &Column, entries: Vec<String>) -> Column {
    let numbers: Option<Vec<i64>> = match key.data {
        ColumnData::Integer(_) => entries.iter().map(|entry| entry.parse().ok()).collect(),
        _ => None,
    };
    match numbers {
        Some(numbers) => Column::integer_key(&key.name, &key.unit, &key.meaning, numbers),
        None => Column::key(&key.name, &key.meaning, entries),
    }
}

/// The columns of one number; none if no model has it.
fn summary(
    (families, compares): (&[OfFamily<'_>], bool),
    keys: &[&Column],
    rows: &[Row],
    estimate: &Column,
) -> Result<Vec<Column>, StudyError> {
    let of = |pick: &dyn Fn(&Table) -> Option<Column>| -> Vec<Vec<f64>> {
        let by_family: Vec<Vec<BTreeMap<Vec<String>, f64>>> = families
            .iter()
            .map(|family| family.tables.iter().map(|table| means(table, keys, pick(table))).collect())
            .collect();
        let value = |(family, group): &Row| {
            by_family[*family].iter().map(|means| means.get(group).copied().unwrap_or(f64::NAN)).collect()
        };
        rows.iter().map(value).collect()
    };
    let values = of(&|table| table.column(&estimate.name).cloned());
    if values.iter().flatten().all(|value| !value.is_finite()) {
        return Ok(Vec::new());
    }
    let name = estimate.name.as_str();
    let mut columns = match compares {
        false => Estimates::of(&values)?.columns(name, &estimate.unit, &estimate.meaning),
        true => {
            let means = values.iter().map(|values| mean(values.iter().copied())).collect();
            // Two seeds are one pair, seen from both sides.
            let pairs = |values: &Vec<f64>| match values.iter().filter(|value| value.is_finite()).count() {
                2 => 1,
                count => count as i64,
            };
            vec![
                Column::estimate(name, &estimate.unit, &estimate.meaning, means),
                Column::observations(name, "pairs of seeds", values.iter().map(pairs).collect()),
            ]
        }
    };
    let nulls = of(&|table| table.companion(ColumnRole::Null, name).cloned());
    let nulls: Vec<f64> = nulls.iter().map(|nulls| mean(nulls.iter().copied())).collect();
    if nulls.iter().any(|null| null.is_finite()) {
        columns.push(Column::null(name, &estimate.unit, "mean over seeds of the nulls of the models", nulls));
    }
    Ok(columns)
}

/// Mean of a column in each group of rows of one model.
fn means(table: &Table, keys: &[&Column], column: Option<Column>) -> BTreeMap<Vec<String>, f64> {
    let mut values: BTreeMap<Vec<String>, Vec<f64>> = BTreeMap::new();
    if let Some(column) = column {
        for row in 0..table.rows() {
            values
                .entry(group(table, keys, row))
                .or_default()
                .push(column.data.number(row).unwrap_or(f64::NAN));
        }
    }
    values.into_iter().map(|(group, values)| (group, mean(values.into_iter()))).collect()
}

/// Mean of what is finite; NaN of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let known: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

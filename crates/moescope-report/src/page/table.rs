//! Tables of results as grids, with the meaning of their columns.

use moescope_base::{Column, ColumnData, ColumnRole, Table};
use serde_json::{Value, json};

use super::PageData;
use super::grid::{Cell, Grid, Head};
use crate::html::{Text, identifier};
use crate::number;

/// A table with its method and the meaning of its columns.
///
/// Intervals stand beside their estimates, so the table has fewer columns than the download, which has all of them.
pub(super) fn table(place: &str, table: &Table, data: &mut PageData) -> String {
    let columns: Vec<&Column> =
        table.columns().iter().filter(|c| !stands_aside(table, c) && !stands_above(table, c)).collect();
    let position = |column: &Column| table.columns().iter().position(|c| c.name == column.name);
    let grid = Grid {
        file: table.name().to_owned(),
        caption: table.title().to_owned(),
        heads: columns.iter().map(|column| head(table, column)).collect(),
        rows: turned(columns.iter().map(|column| cells(table, column)).collect(), table.rows()),
        csv: table.columns().iter().map(|c| (c.name.clone(), values(&c.data))).collect(),
        keys: columns.iter().filter_map(|column| position(column)).collect(),
    };
    let grid = grid.html(&anchor(place, table), data);
    format!("{grid}{}", notes(table))
}

/// The target of links to a table in the part of the page with the anchor `place`.
pub(super) fn anchor(place: &str, table: &Table) -> String {
    format!("{place}-table-{}", identifier(table.name()))
}

/// Ends of an interval stand in the cell of their estimate.
///
/// A column that has only one end stays a column: half an interval in a cell would pass for a whole one.
fn stands_aside(table: &Table, column: &Column) -> bool {
    let (ColumnRole::Low(of) | ColumnRole::High(of)) = &column.role else { return false };
    table.companion(ColumnRole::Low, of).is_some() && table.companion(ColumnRole::High, of).is_some()
}

/// A count that is the same in every row stands in the heading of what it counts; the download has it as a column.
fn stands_above(table: &Table, column: &Column) -> bool {
    let ColumnRole::Count(of) = &column.role else { return false };
    table.column(of).is_some() && the_same(column).is_some()
}

/// The entry of a column that has the same in every row.
fn the_same(column: &Column) -> Option<i64> {
    let ColumnData::Integer(entries) = &column.data else { return None };
    let first = *entries.first()?;
    entries.iter().all(|entry| *entry == first).then_some(first)
}

/// Heading of a column by its role; a probability has no unit to show.
fn head(table: &Table, column: &Column) -> Head {
    let label = match &column.role {
        ColumnRole::Count(of) => format!("n of {of}"),
        ColumnRole::Null(of) => format!("null of {of}"),
        ColumnRole::PValue(of) => format!("p of {of}"),
        _ => column.name.clone(),
    };
    let unit = if matches!(column.role, ColumnRole::PValue(_)) { "" } else { column.unit.as_str() };
    let interval = table.companion(ColumnRole::Low, &column.name).map(|_| "[interval]");
    let count = table.companion(ColumnRole::Count, &column.name).filter(|count| stands_above(table, count));
    let count = count.and_then(|c| {
        the_same(c).map(|n| format!("n = {} {}", number::integer(n), c.unit).replace(' ', "\u{a0}"))
    });
    let details =
        [Some(unit), interval, count.as_deref()].into_iter().flatten().filter(|text| !text.is_empty());
    let detail = details.collect::<Vec<_>>().join(" ");
    Head::new(&label.replace('_', " "), &detail, !matches!(column.data, ColumnData::Text(_)))
}

/// The entries of a column as they are read.
fn cells(table: &Table, column: &Column) -> Vec<Cell> {
    let plain = |text: String| Cell::new(text, String::new());
    match &column.data {
        ColumnData::Text(text) => text.iter().cloned().map(plain).collect(),
        ColumnData::Real(p) if matches!(column.role, ColumnRole::PValue(_)) => {
            p.iter().map(|p| plain(number::probability(*p))).collect()
        }
        _ if table.companion(ColumnRole::Low, &column.name).is_some() => {
            (0..table.rows()).map(|row| with_interval(table, column, row)).collect()
        }
        ColumnData::Integer(integers) => integers.iter().map(|i| plain(number::integer(*i))).collect(),
        ColumnData::Real(numbers) => number::column(numbers).into_iter().map(plain).collect(),
    }
}

/// Estimate and interval of one row, rounded together; a missing end is NaN.
fn with_interval(table: &Table, column: &Column, row: usize) -> Cell {
    let end = |role| table.companion(role, &column.name).and_then(|c| c.data.number(row)).unwrap_or(f64::NAN);
    let value = column.data.number(row).unwrap_or(f64::NAN);
    let (value, interval) = number::with_interval(value, end(ColumnRole::Low), end(ColumnRole::High));
    Cell::new(value, interval.unwrap_or_default())
}

/// Columns into rows.
fn turned(columns: Vec<Vec<Cell>>, rows: usize) -> Vec<Vec<Cell>> {
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    (0..rows).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()).collect()
}

/// Entries with full precision; a number that is not finite becomes `null`.
fn values(data: &ColumnData) -> Value {
    match data {
        ColumnData::Text(text) => json!(text),
        ColumnData::Integer(integers) => json!(integers),
        ColumnData::Real(numbers) => json!(numbers),
    }
}

/// How the table was made, and name, unit and meaning of every column, folded up below it.
fn notes(table: &Table) -> String {
    let meaning = |column: &Column| {
        let unit = if column.unit.is_empty() { String::new() } else { format!(" ({})", column.unit) };
        format!(
            "<div><dt>{}{}</dt><dd>{}</dd></div>\n",
            Text(&column.name),
            Text(&unit),
            Text(&column.meaning)
        )
    };
    let meanings: String = table.columns().iter().map(meaning).collect();
    let method = match table.method().is_empty() {
        true => String::new(),
        false => format!("<p>{}</p>\n", Text(table.method())),
    };
    let name = Text(table.name());
    format!(
        "<details class=\"about\">\n<summary>How table <code>{name}</code> was made, and what its columns mean</summary>\n\
         {method}<dl class=\"facts\">\n{meanings}</dl>\n</details>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counts: Vec<i64>) -> (String, PageData) {
        let columns = vec![
            Column::key("arm", "which", vec!["a".into(), "b".into()]),
            Column::estimate("loss", "nats", "loss", vec![1.0, 2.0]),
            Column::observations("loss", "seeds", counts),
        ];
        let mut data = PageData::default();
        let html = table("here", &Table::new("t", "T", "", columns).unwrap(), &mut data);
        (html, data)
    }

    #[test]
    fn a_count_that_never_changes_stands_in_the_heading() {
        let (html, data) = shown(vec![3, 3]);
        assert!(html.contains("loss <small>nats n\u{a0}=\u{a0}3\u{a0}seeds</small>"), "{html}");
        assert!(!html.contains("n of loss"));
        assert_eq!(
            data.grids["here-table-t"]["names"],
            json!(["arm", "loss", "loss_n"]),
            "the download keeps it"
        );
        assert!(shown(vec![3, 2]).0.contains("n of loss"));
    }
}

//! Tables of results as grids, with the meaning of their columns.

use moescope_base::{Column, ColumnData, ColumnRole, Table};
use serde_json::{Value, json};

use super::PageData;
use super::grid::{Cell, Grid, Head};
use crate::html::{Text, identifier};
use crate::number;

/// Rows of a table that a page holds at most; a longer one would weigh more than all else, and nobody reads it through.
const MOST_ROWS: usize = 2000;

/// A table with its method and the meaning of its columns.
///
/// Intervals stand beside their estimates, so the table has fewer columns than the download, which has all of them. Of a very long
/// table the page holds the rows that are farthest from what they would be by chance, and says so.
pub(super) fn table(place: &str, table: &Table, data: &mut PageData) -> String {
    let columns: Vec<&Column> =
        table.columns().iter().filter(|c| !stands_aside(table, c) && !stands_above(table, c)).collect();
    let position = |column: &Column| table.columns().iter().position(|c| c.name == column.name);
    let kept = most_telling(table);
    let mut rows = turned(columns.iter().map(|column| cells(table, column)).collect(), table.rows());
    let mut caption = table.title().to_owned();
    if kept.len() < table.rows() {
        rows = kept.iter().map(|row| std::mem::take(&mut rows[*row])).collect();
        let (few, all) = (number::integer(kept.len() as i64), number::integer(table.rows() as i64));
        caption +=
            &format!(" (of {all} rows the {few} farthest from chance; all are in the table's own file)");
    }
    let grid = Grid {
        file: table.name().to_owned(),
        caption,
        heads: columns.iter().map(|column| head(table, column)).collect(),
        rows,
        csv: table.columns().iter().map(|c| (c.name.clone(), values(&c.data, &kept))).collect(),
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

/// Entries of some rows with full precision; a number that is not finite becomes `null`.
fn values(data: &ColumnData, rows: &[usize]) -> Value {
    match data {
        ColumnData::Text(text) => rows.iter().map(|row| json!(text[*row])).collect(),
        ColumnData::Integer(integers) => rows.iter().map(|row| json!(integers[*row])).collect(),
        ColumnData::Real(numbers) => rows.iter().map(|row| json!(numbers[*row])).collect(),
    }
}

/// The rows that are shown, in order: all, or those whose first estimate is farthest from its null, or from 0 without one.
fn most_telling(table: &Table) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..table.rows()).collect();
    let estimate = table.columns().iter().find(|column| matches!(column.role, ColumnRole::Estimate));
    if let (true, Some(estimate)) = (rows.len() > MOST_ROWS, estimate) {
        let null = table.companion(ColumnRole::Null, &estimate.name);
        let at = |column: &Column, row| column.data.number(row).filter(|value| value.is_finite());
        let distance = |row: &usize| {
            let null = null.and_then(|null| at(null, *row)).unwrap_or(0.0);
            at(estimate, *row).map_or(-1.0, |value| (value - null).abs())
        };
        rows.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
    }
    rows.truncate(MOST_ROWS);
    rows.sort_unstable();
    rows
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
    fn of_a_long_table_the_rows_farthest_from_chance_are_shown() {
        let rows = MOST_ROWS + 50;
        let of = |f: fn(usize) -> f64| (0..rows).map(f).collect::<Vec<f64>>();
        let columns = vec![
            Column::integer_key("row", "", "row", (0..rows as i64).collect()),
            // Only the first 50 rows are what chance gives.
            Column::estimate(
                "share",
                "",
                "share",
                of(|row| if row < 50 { 9.0 } else { 1.0 + row as f64 * 1e-6 }),
            ),
            Column::null("share", "", "chance", of(|row| if row < 50 { 9.0 } else { 0.0 })),
        ];
        let mut data = PageData::default();
        let html = table("here", &Table::new("t", "T", "", columns).unwrap(), &mut data);
        assert!(html.contains("farthest from chance"), "{html}");
        let grid = &data.grids["here-table-t"];
        assert_eq!(
            grid["columns"][0].as_array().map(|row| (row[0].clone(), row.len())),
            Some((json!(50), 2000))
        );
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

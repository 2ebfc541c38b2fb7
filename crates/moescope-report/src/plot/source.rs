//! How a figure reads a table: by column name, with the companions found by role.

use moescope_base::{Column, ColumnData, ColumnRole, Table};

use super::{Quantity, Reading};
use crate::{ReportError, number};

/// A table under the eyes of a figure; errors name both.
pub(crate) struct Source<'a> {
    /// Identifier of the figure, for errors.
    pub(crate) figure: &'a str,
    /// Where it reads.
    pub(crate) table: &'a Table,
}

/// A column of numbers together with the columns that speak about it.
pub(crate) struct Measured<'a> {
    value: &'a Column,
    low: Option<&'a Column>,
    high: Option<&'a Column>,
    null: Option<&'a Column>,
    p: Option<&'a Column>,
    count: Option<&'a Column>,
}

impl<'a> Source<'a> {
    /// The column of that name.
    ///
    /// # Errors
    /// [`ReportError::MissingColumn`], with the columns that there are.
    pub(crate) fn column(&self, name: &str) -> Result<&'a Column, ReportError> {
        self.table.column(name).ok_or_else(|| ReportError::MissingColumn {
            figure: self.figure.to_owned(),
            table: self.table.name().to_owned(),
            column: name.to_owned(),
            known: self.table.columns().iter().map(|c| c.name.clone()).collect(),
        })
    }

    /// A column of numbers with its interval, null, count and probability.
    pub(crate) fn measured(&self, name: &str) -> Result<Measured<'a>, ReportError> {
        let value = self.column(name)?;
        if matches!(value.data, ColumnData::Text(_)) {
            return Err(ReportError::NotNumeric {
                figure: self.figure.to_owned(),
                table: self.table.name().to_owned(),
                column: name.to_owned(),
            });
        }
        let companion = |role| self.table.companion(role, name);
        Ok(Measured {
            value,
            low: companion(ColumnRole::Low),
            high: companion(ColumnRole::High),
            null: companion(ColumnRole::Null),
            p: companion(ColumnRole::PValue),
            count: companion(ColumnRole::Count),
        })
    }

    /// The labels of a column; one empty label for every row when no column is named.
    pub(crate) fn labels(&self, name: Option<&str>) -> Result<Vec<String>, ReportError> {
        let Some(name) = name else { return Ok(vec![String::new(); self.table.rows()]) };
        let column = self.column(name)?;
        Ok((0..self.table.rows()).map(|row| label(column, row)).collect())
    }

    /// The labels of a column where no axis tells what they are: a number comes with the column's name.
    pub(crate) fn names(&self, name: Option<&str>) -> Result<Vec<String>, ReportError> {
        let Some(name) = name else { return self.labels(None) };
        let column = self.column(name)?;
        Ok((0..self.table.rows()).map(|row| named(column, row)).collect())
    }

    /// The entries of the key columns of a row, for the reader who points at a mark.
    pub(crate) fn row_name(&self, row: usize) -> String {
        let keys = self.table.columns().iter().filter(|c| c.role == ColumnRole::Key);
        keys.map(|column| named(column, row)).collect::<Vec<_>>().join(" · ")
    }
}

/// An entry that is understood alone: a number with the name of its column.
fn named(column: &Column, row: usize) -> String {
    match column.data {
        ColumnData::Text(_) => label(column, row),
        _ => format!("{} {}", column.name.replace('_', " "), label(column, row)),
    }
}

impl Measured<'_> {
    /// What the numbers of the column are of.
    pub(crate) fn quantity(&self) -> Quantity {
        Quantity::of(self.value)
    }

    /// The estimate of one row with its companions; NaN for each that the table lacks.
    pub(crate) fn reading(&self, row: usize) -> Reading {
        let number = |column: Option<&Column>| column.and_then(|c| c.data.number(row)).unwrap_or(f64::NAN);
        let count = self.count.map(|c| format!("{} {}", label(c, row), c.unit).trim().to_owned());
        Reading {
            value: number(Some(self.value)),
            low: number(self.low),
            high: number(self.high),
            null: number(self.null),
            p: number(self.p),
            count,
        }
    }
}

/// An entry as a short text; numbers with few digits.
pub(crate) fn label(column: &Column, row: usize) -> String {
    match &column.data {
        ColumnData::Real(numbers) if numbers[row].fract() == 0.0 && numbers[row].abs() < 1e6 => {
            number::integer(numbers[row] as i64)
        }
        ColumnData::Real(numbers) => number::significant(numbers[row], 3),
        ColumnData::Integer(integers) => number::integer(integers[row]),
        ColumnData::Text(text) => visible(&text[row]),
    }
}

/// A label on one line: what would break or turn it is shown by a sign.
fn visible(text: &str) -> String {
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let sign = |c: char| match c {
        '\n' => '↵',
        '\t' => '⇥',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}', // these reverse what follows
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(sign).collect()
}

/// The position of each label in the list of distinct labels, in order of first appearance.
///
/// Not sorted: the author of a table has put its rows in an order that means something.
pub(crate) fn distinct(labels: &[String]) -> (Vec<String>, Vec<usize>) {
    let mut places = std::collections::BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    let index = labels.iter().map(|label| {
        *places.entry(label.as_str()).or_insert_with(|| {
            names.push(label.clone());
            names.len() - 1
        })
    });
    let index = index.collect();
    (names, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_from_a_corpus_stays_on_its_line() {
        let shown = ["a\nb\tc\0", "\u{202e}x", "", "plain"].map(visible);
        assert_eq!(shown, ["a↵b⇥c\u{fffd}", "\u{fffd}x", "(empty)", "plain"]);
    }

    #[test]
    fn distinct_labels_keep_the_order_of_first_appearance() {
        let labels = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(distinct(&labels), (vec!["b".to_owned(), "a".to_owned()], vec![0, 1, 0]));
    }
}

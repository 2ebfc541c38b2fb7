//! What an instrument promises to find and not to find, said so that a bench can hold it to its word.

use moescope_base::{ColumnRole, Table};
use serde::Serialize;

use super::{Finding, Property};
use crate::AnalysisError;
use crate::statistics::holm;

/// Level of the tests behind [`Rule::Significant`].
pub const LEVEL: f64 = 0.05;

/// One promise: where this property is planted, this reading holds, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Promise {
    /// What is planted.
    pub planted: Property,
    /// Whether the reading must hold there; if not, it must hold no more often than chance allows.
    pub finds: bool,
    /// What is read.
    pub reading: Reading,
}

impl Promise {
    /// Where `planted` is planted, the reading holds.
    pub const fn finds(planted: Property, reading: Reading) -> Promise {
        Promise { planted, finds: true, reading }
    }

    /// Where `planted` is planted, the reading does not hold but by chance.
    pub const fn is_silent(planted: Property, reading: Reading) -> Promise {
        Promise { planted, finds: false, reading }
    }
}

/// A yes or no that is read from the tables of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// What a yes says, in words.
    pub says: &'static str,
    /// Table.
    pub table: &'static str,
    /// Rows that count, by the entries of their columns; all of them if there is none. One row with a yes is a yes.
    pub rows: &'static [(&'static str, &'static str)],
    /// Column of the number.
    pub value: &'static str,
    /// When it is a yes.
    pub rule: Rule,
}

/// When a number is a yes; the interval, null and p-value are those that belong to its column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Its p-value, with Holm's correction over the rows that count, is at most [`LEVEL`].
    Significant,
    /// Its interval, or the number where it has none, lies above so many times its null.
    Above(f64),
    /// Its interval, or the number where it has none, lies below so many times its null.
    Below(f64),
    /// It is larger than the number in another column.
    Exceeds(&'static str),
    /// Its interval, or the number where it has none, lies above this number.
    MoreThan(f64),
    /// Its interval, or the number where it has none, lies below this number.
    LessThan(f64),
    /// Of the key columns, this one has this entry where the number is largest among all rows.
    LargestAt(&'static str, &'static str),
}

impl Reading {
    /// Whether the finding says yes.
    ///
    /// # Errors
    /// If the finding has no such table, column or row.
    pub fn holds(&self, finding: &Finding) -> Result<bool, AnalysisError> {
        let table = finding.tables.iter().find(|table| table.name() == self.table);
        let table = table.ok_or_else(|| self.lacks("table", self.table))?;
        let mut rows = Vec::new();
        for row in 0..table.rows() {
            let fits = |(column, entry): &(&str, &str)| {
                let column = table.column(column).ok_or_else(|| self.lacks("column", column))?;
                Ok::<bool, AnalysisError>(column.data.label(row) == *entry)
            };
            if self.rows.iter().map(fits).collect::<Result<Vec<bool>, _>>()?.into_iter().all(|fits| fits) {
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return Err(self.lacks("row", &format!("{:?}", self.rows)));
        }
        self.decide(table, &rows)
    }

    fn decide(&self, table: &Table, rows: &[usize]) -> Result<bool, AnalysisError> {
        let own = table.column(self.value).ok_or_else(|| self.lacks("column", self.value))?;
        let of = |role: fn(String) -> ColumnRole| table.companion(role, self.value);
        let number = |row: usize| own.data.number(row).unwrap_or(f64::NAN);
        let low = |row: usize| of(ColumnRole::Low).map_or(own, |low| low).data.number(row);
        let high = |row: usize| of(ColumnRole::High).map_or(own, |high| high).data.number(row);
        let null = |row: usize| of(ColumnRole::Null).and_then(|null| null.data.number(row));
        let any = |holds: &dyn Fn(usize) -> Option<bool>| rows.iter().any(|row| holds(*row) == Some(true));
        Ok(match self.rule {
            Rule::Significant => {
                let p = of(ColumnRole::PValue).ok_or_else(|| self.lacks("p-value of", self.value))?;
                let p: Vec<f64> = rows.iter().map(|row| p.data.number(*row).unwrap_or(1.0)).collect();
                holm(&p).into_iter().any(|p| p <= LEVEL)
            }
            Rule::Above(times) => any(&|row| Some(low(row)? > times * null(row)?)),
            Rule::Below(times) => any(&|row| Some(high(row)? < times * null(row)?)),
            Rule::MoreThan(limit) => any(&|row| Some(low(row)? > limit)),
            Rule::LessThan(limit) => any(&|row| Some(high(row)? < limit)),
            Rule::Exceeds(other) => {
                let other = table.column(other).ok_or_else(|| self.lacks("column", other))?;
                any(&|row| Some(number(row) > other.data.number(row)?))
            }
            Rule::LargestAt(key, entry) => {
                let key = table.column(key).ok_or_else(|| self.lacks("column", key))?;
                let largest = (0..table.rows())
                    .filter(|row| number(*row).is_finite())
                    .max_by(|a, b| number(*a).total_cmp(&number(*b)));
                largest.is_some_and(|row| key.data.label(row) == entry)
            }
        })
    }

    fn lacks(&self, what: &'static str, name: &str) -> AnalysisError {
        let (method, found) = ("reading of a finding", format!("`{name}`, which is not there"));
        AnalysisError::OutOfRange { method, what, found, wanted: format!("one of table `{}`", self.table) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Column;

    /// Two layers: 1 [0.4, 1.6] with p 0.03, and 3 [2.5, 3.5] with p 0.04; null 1 each.
    fn finding() -> Finding {
        let mut columns = vec![
            Column::integer_key("layer", "", "block", vec![0, 1]),
            Column::estimate("x", "", "x", vec![1.0, 3.0]),
            Column::null("x", "", "null", vec![1.0, 1.0]),
            Column::p_value("x", "p", vec![0.03, 0.04]),
            Column::estimate("limit", "", "limit", vec![2.0, 2.9]),
        ];
        columns.extend(Column::interval("x", "", "interval", vec![0.4, 2.5], vec![1.6, 3.5]));
        vec![Table::new("t", "T", "", columns).unwrap()].into()
    }

    fn read(rows: &'static [(&'static str, &'static str)], rule: Rule) -> Result<bool, AnalysisError> {
        Reading { says: "something", table: "t", rows, value: "x", rule }.holds(&finding())
    }

    #[test]
    fn each_rule_by_hand() {
        let first: &[(&str, &str)] = &[("layer", "0")];
        // Of two tests the smaller p-value counts twice.
        assert!(!read(&[], Rule::Significant).unwrap() && read(first, Rule::Significant).unwrap());
        assert!(read(&[], Rule::Above(2.0)).unwrap() && !read(first, Rule::Above(1.0)).unwrap());
        assert!(read(&[], Rule::Below(2.0)).unwrap() && !read(first, Rule::Below(1.5)).unwrap());
        assert!(read(&[], Rule::MoreThan(2.4)).unwrap() && !read(&[], Rule::MoreThan(2.5)).unwrap());
        assert!(read(&[], Rule::LessThan(1.7)).unwrap() && !read(&[], Rule::LessThan(1.6)).unwrap());
        assert!(read(&[], Rule::Exceeds("limit")).unwrap() && !read(first, Rule::Exceeds("limit")).unwrap());
        assert!(read(&[], Rule::LargestAt("layer", "1")).unwrap());
        assert!(!read(&[], Rule::LargestAt("layer", "0")).unwrap());
    }

    #[test]
    fn what_is_not_there_is_an_error_and_no_silence() {
        assert!(read(&[("layer", "7")], Rule::Above(1.0)).unwrap_err().to_string().contains("not there"));
        assert!(read(&[("none", "0")], Rule::Above(1.0)).is_err());
        assert!(read(&[], Rule::Exceeds("none")).is_err());
        let of = |table, value| Reading { says: "", table, rows: &[], value, rule: Rule::Above(1.0) };
        assert!(of("other", "x").holds(&finding()).is_err() && of("t", "y").holds(&finding()).is_err());
    }
}

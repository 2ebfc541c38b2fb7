//! What the tables of an instrument hold, said so that a test can hold the tables to it.

use std::fmt;

use moescope_base::{ColumnData, ColumnRole, Table};
use serde::Serialize;

use super::{About, Finding};

/// One table that an instrument gives: what a row is, and the numbers in it.
///
/// Ends of intervals, counts of observations, nulls and p-values stand beside the number that they belong to, in its unit, and are not
/// listed. An instrument that lacks what a table is made of, such as a second domain, leaves the table out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gives {
    /// Name of the table, which is that of its file.
    pub table: &'static str,
    /// What a row is: the columns that name it. None where the table has one row.
    pub rows: &'static [&'static str],
    /// The results of a row, in the order of the columns.
    pub numbers: &'static [Number],
}

/// One column of results.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Number {
    /// Name of the column.
    pub column: &'static str,
    /// Its unit; empty for pure numbers, identifiers and words.
    pub unit: &'static str,
    /// What it may be.
    pub range: Range,
    /// What its sign or a value of it says, where name, unit and range leave that open; else empty.
    pub note: &'static str,
}

/// What a number may be. It may be absent (NaN) besides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// From the one to the other, both possible.
    Within(f64, f64),
    /// From a number to what the model or the text sets: the number in another column of the row where there is one of this name, else in words.
    UpTo(f64, &'static str),
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
    /// Any number.
    Any,
    /// No number but words.
    Words,
}

impl Gives {
    /// The columns in which a table is not as it is said here, each with the reason; none if it is.
    pub fn unlike(&self, table: &Table) -> Vec<String> {
        let of_role = |role: ColumnRole| table.columns().iter().filter(move |column| column.role == role);
        let keys: Vec<&str> = of_role(ColumnRole::Key).map(|column| column.name.as_str()).collect();
        let results: Vec<(&str, &str)> = of_role(ColumnRole::Estimate)
            .map(|column| (column.name.as_str(), column.unit.as_str()))
            .collect();
        let said: Vec<(&str, &str)> =
            self.numbers.iter().map(|number| (number.column, number.unit)).collect();
        let mut unlike = Vec::new();
        if keys != self.rows {
            unlike.push(format!("{}: a row is {keys:?}, said is {:?}", self.table, self.rows));
        }
        if results != said {
            unlike.push(format!("{}: its results are {results:?}, said is {said:?}", self.table));
        }
        let columns = self.numbers.iter().filter_map(|number| Some((number, table.column(number.column)?)));
        unlike.extend(columns.filter_map(|(number, column)| {
            let why = number.range.broken_by(&column.data, table)?;
            Some(format!("{}: `{}` is said to be {}, but is {why}", self.table, column.name, number.range))
        }));
        unlike
    }
}

impl About {
    /// Where the tables of a finding are not what the instrument says of them in [`About::gives`], each with the reason.
    pub fn unlike(&self, finding: &Finding) -> Vec<String> {
        let of = |table: &Table| match self.gives.iter().find(|gives| gives.table == table.name()) {
            Some(gives) => gives.unlike(table),
            None => vec![format!("{}: the table is not said to be given", table.name())],
        };
        finding.tables.iter().flat_map(of).collect()
    }
}

impl Number {
    /// A column of words.
    pub const fn words(column: &'static str) -> Number {
        Number::of(column, "", Range::Words)
    }

    /// A column of any numbers.
    pub const fn any(column: &'static str, unit: &'static str) -> Number {
        Number::of(column, unit, Range::Any)
    }

    /// A column of numbers from 0 to 1.
    pub const fn share(column: &'static str, unit: &'static str) -> Number {
        Number::within(column, unit, 0.0, 1.0)
    }

    /// A column of numbers from the one to the other.
    pub const fn within(column: &'static str, unit: &'static str, low: f64, high: f64) -> Number {
        Number::of(column, unit, Range::Within(low, high))
    }

    /// A column of numbers from `low` to what the model or the text sets.
    pub const fn up_to(column: &'static str, unit: &'static str, low: f64, high: &'static str) -> Number {
        Number::of(column, unit, Range::UpTo(low, high))
    }

    /// A column of numbers from `low` on.
    pub const fn at_least(column: &'static str, unit: &'static str, low: f64) -> Number {
        Number::of(column, unit, Range::AtLeast(low))
    }

    /// A column of numbers up to `high`.
    pub const fn at_most(column: &'static str, unit: &'static str, high: f64) -> Number {
        Number::of(column, unit, Range::AtMost(high))
    }

    /// The same, with what its sign or a value of it says.
    pub const fn noting(self, note: &'static str) -> Number {
        Number { note, ..self }
    }

    const fn of(column: &'static str, unit: &'static str, range: Range) -> Number {
        Number { column, unit, range, note: "" }
    }
}

impl Range {
    /// Whether a number is in the range, but for rounding; of a bound that is set by model or text only the other one is known.
    pub fn holds(self, number: f64) -> bool {
        match self {
            Range::Within(low, high) => at_most(low, number) && at_most(number, high),
            Range::UpTo(low, _) | Range::AtLeast(low) => at_most(low, number),
            Range::AtMost(high) => at_most(number, high),
            Range::Any => true,
            Range::Words => false,
        }
    }

    /// The first entry that is not in the range, in words.
    fn broken_by(self, data: &ColumnData, table: &Table) -> Option<String> {
        if let ColumnData::Text(_) = data {
            return (self != Range::Words).then(|| "words".into());
        }
        let bound = match self {
            Range::UpTo(_, column) => table.column(column).map(|column| &column.data),
            _ => None,
        };
        let broken = |(row, number): (usize, f64)| {
            let high = bound.and_then(|bound| bound.number(row)).filter(|high| high.is_finite());
            match high {
                _ if !self.holds(number) => Some(number.to_string()),
                Some(high) if !at_most(number, high) => Some(format!("{number} where that is {high}")),
                _ => None,
            }
        };
        let numbers = (0..data.len()).filter_map(|row| Some((row, data.number(row)?)));
        numbers.filter(|(_, number)| number.is_finite()).find_map(broken)
    }
}

/// What rounding may add to a number: many are made of single-precision ones.
const ROUNDING: f64 = 1e-6;

/// Whether a number is no larger than another, but for rounding.
fn at_most(number: f64, other: f64) -> bool {
    number <= other + ROUNDING * other.abs().max(1.0)
}

impl fmt::Display for Range {
    /// In plain words, such as `0 to 1`, `1 to experts`, `0 or more`.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |number: f64| number.to_string().replace('-', "−");
        match self {
            Range::Within(low, high) => write!(to, "{} to {}", sign(*low), sign(*high)),
            Range::UpTo(low, high) => write!(to, "{} to {high}", sign(*low)),
            Range::AtLeast(low) => write!(to, "{} or more", sign(*low)),
            Range::AtMost(high) => write!(to, "{} or less", sign(*high)),
            Range::Any => write!(to, "any"),
            Range::Words => write!(to, "words"),
        }
    }
}

impl fmt::Display for Number {
    /// In plain words, such as `share (share of tokens, 0 to 1)`.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.unit.is_empty() { String::new() } else { format!("{}, ", self.unit) };
        let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
        write!(to, "{} ({unit}{}{note})", self.column, self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Column;

    const GIVES: Gives = Gives {
        table: "t",
        rows: &["layer"],
        numbers: &[
            Number::up_to("size", "experts", 1.0, "experts"),
            Number::any("gain", "nats").noting("above 0: better"),
            Number::words("which"),
        ],
    };

    fn table(unit: &str, size: f64, key: &str) -> Table {
        let columns = vec![
            Column::integer_key(key, "", "block", vec![0, 1]),
            Column::estimate("size", unit, "size", vec![f64::NAN, size]),
            Column::null("size", unit, "even", vec![0.0, 0.0]),
            Column::estimate("gain", "nats", "gain", vec![-3.0, 3.0]),
            Column::text("which", "which", vec!["a".into(), "b".into()]),
        ];
        Table::new("t", "T", "", columns).unwrap()
    }

    #[test]
    fn a_table_is_held_to_what_is_said_of_it() {
        assert!(GIVES.unlike(&table("experts", 1.0, "layer")).is_empty());
        for (other, why) in [
            (table("layers", 1.0, "layer"), "its results are"),
            (table("experts", 0.5, "layer"), "`size` is said to be 1 to experts, but is 0.5"),
            (table("experts", 1.0, "block"), "a row is"),
        ] {
            let unlike = GIVES.unlike(&other);
            assert!(unlike.len() == 1 && unlike[0].contains(why), "{unlike:?}");
        }
        const NUMBER: &[Number] = &[Number::any("which", "")];
        let words = Gives { numbers: NUMBER, ..GIVES };
        assert!(words.unlike(&table("experts", 1.0, "layer")).iter().any(|why| why.contains("but is words")));
    }

    #[test]
    fn a_bound_that_is_another_column_holds_row_by_row() {
        const BOUND: Gives = Gives {
            table: "t",
            rows: &[],
            numbers: &[Number::up_to("held", "", 0.0, "asked"), Number::at_least("asked", "", 0.0)],
        };
        let table = |held: Vec<f64>| {
            let columns = vec![
                Column::estimate("held", "", "held", held),
                Column::estimate("asked", "", "asked", vec![2.0, 3.0]),
            ];
            Table::new("t", "T", "", columns).unwrap()
        };
        assert!(BOUND.unlike(&table(vec![2.0, 3.0])).is_empty());
        let unlike = BOUND.unlike(&table(vec![3.0, 3.0]));
        assert!(unlike.len() == 1 && unlike[0].contains("but is 3 where that is 2"), "{unlike:?}");
    }

    #[test]
    fn ranges_hold_their_ends_and_are_said_in_words() {
        let cases = [
            (Range::Within(-1.0, 1.0), [true, true, false], "−1 to 1"),
            (Range::AtLeast(0.5), [false, true, true], "0.5 or more"),
            (Range::AtMost(1.0), [true, true, false], "1 or less"),
            (Range::UpTo(0.0, "experts"), [false, true, true], "0 to experts"),
            (Range::Any, [true, true, true], "any"),
        ];
        for (range, holds, words) in cases {
            assert_eq!([-1.0, 1.0, 1.1].map(|number| range.holds(number)), holds, "{range}");
            assert_eq!(range.to_string(), words);
        }
        assert!(Range::Within(0.0, 1.0).holds(1.0 + 1e-7));
        let said: Vec<String> = GIVES.numbers.iter().map(Number::to_string).collect();
        assert_eq!(
            said,
            ["size (experts, 1 to experts)", "gain (nats, any; above 0: better)", "which (words)"]
        );
    }
}

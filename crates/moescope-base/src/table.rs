use serde::{Deserialize, Serialize};

/// A result: named columns of equal length, each with its unit and its role, and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    name: String,
    /// What the table shows, one line.
    title: String,
    /// How it was made: instrument, unit of observation, null, seeds. Read by people.
    method: String,
    columns: Vec<Column>,
}

/// One column of a [`Table`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Identifier, lower case with underscores.
    pub name: String,
    /// Unit of the entries, such as `nats`; empty for labels.
    pub unit: String,
    /// One line on the meaning.
    pub meaning: String,
    /// What the column is to the others.
    pub role: ColumnRole,
    /// Entries.
    pub data: ColumnData,
}

/// What a column is to the other columns of its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRole {
    /// Names the row.
    Key,
    /// An estimate or a measured number.
    Estimate,
    /// Lower end of the interval of the named column.
    Low(String),
    /// Upper end of the interval of the named column.
    High(String),
    /// Number of independent observations behind the named column.
    Count(String),
    /// What the named column would be if there were nothing to find.
    Null(String),
    /// Probability of a value at least as extreme under the null of the named column.
    PValue(String),
}

/// Entries of a column. A missing number is NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnData {
    /// Labels.
    Text(Vec<String>),
    /// Counts and identifiers.
    Integer(Vec<i64>),
    /// Numbers; one that is not finite is `null` in JSON, which has no word for it, and NaN when it is read back.
    Real(#[serde(deserialize_with = "numbers")] Vec<f64>),
}

/// Reads numbers, NaN where there is none.
fn numbers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Option<f64>>::deserialize(from)?;
    Ok(numbers.into_iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

/// Columns that make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Columns of different length.
    #[error("table `{table}`: column `{column}` has {found} rows, the first column has {wanted}")]
    Length {
        /// Table.
        table: String,
        /// Column.
        column: String,
        /// Rows of that column.
        found: usize,
        /// Rows of the first column.
        wanted: usize,
    },
    /// Two columns of one name.
    #[error("table `{table}` has two columns named `{column}`")]
    Duplicate {
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
    /// A role that refers to a column which is not there.
    #[error("table `{table}`: column `{column}` refers to `{of}`, which the table does not have")]
    Dangling {
        /// Table.
        table: String,
        /// Column.
        column: String,
        /// Missing column.
        of: String,
    },
}

impl Table {
    /// A table from its columns.
    ///
    /// # Errors
    /// If columns differ in length, share a name, or refer to a missing column.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        method: impl Into<String>,
        columns: Vec<Column>,
    ) -> Result<Table, TableError> {
        let table = Table { name: name.into(), title: title.into(), method: method.into(), columns };
        table.check()?;
        Ok(table)
    }

    fn check(&self) -> Result<(), TableError> {
        let wanted = self.rows();
        for (i, column) in self.columns.iter().enumerate() {
            let (table, name) = (self.name.clone(), column.name.clone());
            if column.data.len() != wanted {
                return Err(TableError::Length { table, column: name, found: column.data.len(), wanted });
            }
            if self.columns[..i].iter().any(|c| c.name == name) {
                return Err(TableError::Duplicate { table, column: name });
            }
            if let Some(of) = column.role.refers_to().filter(|of| self.column(of).is_none()) {
                return Err(TableError::Dangling { table, column: name, of: of.to_owned() });
            }
        }
        Ok(())
    }

    /// Identifier, also the name of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it shows.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How it was made.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |c| c.data.len())
    }

    /// The column that holds `role` for the estimate `of`, if there is one.
    pub fn companion(&self, role: fn(String) -> ColumnRole, of: &str) -> Option<&Column> {
        let wanted = role(of.to_owned());
        self.columns.iter().find(|c| c.role == wanted)
    }
}

impl Column {
    /// A column of labels that names the rows.
    pub fn key(name: &str, meaning: &str, entries: Vec<String>) -> Column {
        Column::build(name, "", meaning, ColumnRole::Key, ColumnData::Text(entries))
    }

    /// A column of numbers that names the rows, such as a layer or a granularity.
    pub fn integer_key(name: &str, unit: &str, meaning: &str, entries: Vec<i64>) -> Column {
        Column::build(name, unit, meaning, ColumnRole::Key, ColumnData::Integer(entries))
    }

    /// An estimate.
    pub fn estimate(name: &str, unit: &str, meaning: &str, entries: Vec<f64>) -> Column {
        Column::build(name, unit, meaning, ColumnRole::Estimate, ColumnData::Real(entries))
    }

    /// A count that is itself a result.
    pub fn count(name: &str, unit: &str, meaning: &str, entries: Vec<i64>) -> Column {
        Column::build(name, unit, meaning, ColumnRole::Estimate, ColumnData::Integer(entries))
    }

    /// A column of text that is a result, such as a verdict.
    pub fn text(name: &str, meaning: &str, entries: Vec<String>) -> Column {
        Column::build(name, "", meaning, ColumnRole::Estimate, ColumnData::Text(entries))
    }

    /// The two ends of the interval of the column `of`, named `of_low` and `of_high`.
    pub fn interval(of: &str, unit: &str, level: &str, low: Vec<f64>, high: Vec<f64>) -> [Column; 2] {
        [
            Column::build(
                &format!("{of}_low"),
                unit,
                &format!("lower end, {level}"),
                ColumnRole::Low(of.to_owned()),
                ColumnData::Real(low),
            ),
            Column::build(
                &format!("{of}_high"),
                unit,
                &format!("upper end, {level}"),
                ColumnRole::High(of.to_owned()),
                ColumnData::Real(high),
            ),
        ]
    }

    /// Number of independent observations behind the column `of`; `what` says of what, such as `seeds`.
    pub fn observations(of: &str, what: &str, entries: Vec<i64>) -> Column {
        let name = format!("{of}_n");
        Column::build(
            &name,
            what,
            "independent observations",
            ColumnRole::Count(of.to_owned()),
            ColumnData::Integer(entries),
        )
    }

    /// Value of the column `of` under its null.
    pub fn null(of: &str, unit: &str, meaning: &str, entries: Vec<f64>) -> Column {
        let name = format!("{of}_null");
        Column::build(&name, unit, meaning, ColumnRole::Null(of.to_owned()), ColumnData::Real(entries))
    }

    /// p-value of the column `of` against its null.
    pub fn p_value(of: &str, meaning: &str, entries: Vec<f64>) -> Column {
        let name = format!("{of}_p");
        Column::build(
            &name,
            "probability",
            meaning,
            ColumnRole::PValue(of.to_owned()),
            ColumnData::Real(entries),
        )
    }

    fn build(name: &str, unit: &str, meaning: &str, role: ColumnRole, data: ColumnData) -> Column {
        Column { name: name.to_owned(), unit: unit.to_owned(), meaning: meaning.to_owned(), role, data }
    }
}

impl ColumnRole {
    /// The column that this role speaks about.
    pub fn refers_to(&self) -> Option<&str> {
        match self {
            ColumnRole::Key | ColumnRole::Estimate => None,
            ColumnRole::Low(of)
            | ColumnRole::High(of)
            | ColumnRole::Count(of)
            | ColumnRole::Null(of)
            | ColumnRole::PValue(of) => Some(of),
        }
    }
}

impl ColumnData {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            ColumnData::Text(x) => x.len(),
            ColumnData::Integer(x) => x.len(),
            ColumnData::Real(x) => x.len(),
        }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry as a number; `None` for text.
    pub fn number(&self, row: usize) -> Option<f64> {
        match self {
            ColumnData::Text(_) => None,
            ColumnData::Integer(x) => x.get(row).map(|v| *v as f64),
            ColumnData::Real(x) => x.get(row).copied(),
        }
    }

    /// The entry as text, numbers in Rust's shortest form.
    pub fn label(&self, row: usize) -> String {
        match self {
            ColumnData::Text(x) => x[row].clone(),
            ColumnData::Integer(x) => x[row].to_string(),
            ColumnData::Real(x) => x[row].to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_finds_the_interval_of_an_estimate() {
        let [low, high] = Column::interval("loss", "nats", "95 %", vec![1.0], vec![2.0]);
        let loss = Column::estimate("loss", "nats", "validation loss", vec![1.5]);
        let table = Table::new("t", "t", "by hand", vec![loss, low, high]).unwrap();
        assert_eq!(table.companion(ColumnRole::High, "loss").unwrap().data.number(0), Some(2.0));
        assert!(table.companion(ColumnRole::Null, "loss").is_none());
    }

    #[test]
    fn ragged_duplicate_and_dangling_columns_are_refused() {
        let column = |name: &str, rows| Column::estimate(name, "", "", vec![0.0; rows]);
        let build = |columns| Table::new("t", "", "", columns);
        assert!(matches!(build(vec![column("a", 1), column("b", 2)]), Err(TableError::Length { .. })));
        assert!(matches!(build(vec![column("a", 1), column("a", 1)]), Err(TableError::Duplicate { .. })));
        let dangling = Column::observations("b", "seeds", vec![1]);
        assert!(matches!(build(vec![column("a", 1), dangling]), Err(TableError::Dangling { .. })));
    }
}

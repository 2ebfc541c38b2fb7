//! Mergeable sums on disk: one Parquet file of integers that add up, whoever reads them.
//!
//! A file has the columns `statistic`, `layer`, `row`, `column`, `sum`. Cells that are not there are 0, so any query engine joins files
//! by `SELECT statistic, layer, row, column, sum(sum) … GROUP BY 1, 2, 3, 4`.

use std::path::Path;

use crate::TraceError;
use crate::columns::{self, Cells, ColumnReader};

const FIELDS: [&str; 5] = [
    "REQUIRED BYTE_ARRAY statistic (STRING);",
    "REQUIRED INT64 layer;",
    "REQUIRED INT64 row;",
    "REQUIRED INT64 column;",
    "REQUIRED INT64 sum;",
];

/// Cells of one row group, at most.
const MOST_CELLS: usize = 1 << 18;

/// The sums of one statistic in one layer: `sums[cell]` at `rows[cell]`, `columns[cell]`. Every other cell is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SumGroup {
    /// What was summed.
    pub statistic: String,
    /// Block; −1 for what lies across layers.
    pub layer: i64,
    /// Row of each cell, such as the token id.
    pub rows: Vec<i64>,
    /// Column of each cell, such as the expert.
    pub columns: Vec<i64>,
    /// What the cell sums to.
    pub sums: Vec<i64>,
}

impl SumGroup {
    /// A group of these cells, those of 0 left out.
    pub fn of(statistic: &str, layer: i64, cells: impl IntoIterator<Item = (i64, i64, i64)>) -> SumGroup {
        let mut group = SumGroup { statistic: statistic.into(), layer, ..SumGroup::default() };
        for (row, column, sum) in cells.into_iter().filter(|(.., sum)| *sum != 0) {
            group.rows.push(row);
            group.columns.push(column);
            group.sums.push(sum);
        }
        group
    }

    /// The group in parts of at most [`MOST_CELLS`], so that a reader never holds more; none where there is no cell.
    fn parts(self) -> Vec<SumGroup> {
        let part = |from: usize| {
            let cells = from..(from + MOST_CELLS).min(self.sums.len());
            SumGroup {
                statistic: self.statistic.clone(),
                layer: self.layer,
                rows: self.rows[cells.clone()].to_vec(),
                columns: self.columns[cells.clone()].to_vec(),
                sums: self.sums[cells].to_vec(),
            }
        };
        (0..self.sums.len()).step_by(MOST_CELLS).map(part).collect()
    }

    /// Row, column and sum of each cell.
    pub fn cells(&self) -> impl Iterator<Item = (i64, i64, i64)> + '_ {
        let places = self.rows.iter().zip(&self.columns);
        places.zip(&self.sums).map(|((row, column), sum)| (*row, *column, *sum))
    }
}

/// Writes groups in their order, one row group for each or, where it is large, several; groups without a cell are left out.
///
/// # Errors
/// [`TraceError::Host`] when the file cannot be written.
pub fn write_sums(path: &Path, groups: impl IntoIterator<Item = SumGroup>) -> Result<(), TraceError> {
    let groups = groups.into_iter().flat_map(SumGroup::parts).map(|group| {
        let rows = group.sums.len();
        vec![
            Cells::Repeated(group.statistic, rows),
            Cells::Signed(vec![group.layer; rows]),
            Cells::Signed(group.rows),
            Cells::Signed(group.columns),
            Cells::Signed(group.sums),
        ]
    });
    columns::write(path, &FIELDS, groups)
}

/// Hands on each group of a file, one at a time; a large one comes in parts.
///
/// # Errors
/// [`TraceError::File`] or [`TraceError::Parquet`] for a file that is not there or not whole, and what `visit` returns.
pub fn read_sums<E: From<TraceError>>(
    path: &Path,
    mut visit: impl FnMut(SumGroup) -> Result<(), E>,
) -> Result<(), E> {
    let reader = ColumnReader::open(path)?;
    for group in 0..reader.groups() {
        visit(
            one_group(&reader, group).map_err(|source| TraceError::Parquet { path: path.into(), source })?,
        )?;
    }
    Ok(())
}

fn one_group(reader: &ColumnReader, group: usize) -> parquet::errors::Result<SumGroup> {
    let statistic = reader.text(group, "statistic")?.into_iter().next().unwrap_or_default();
    let layer = reader.signed(group, "layer")?.first().copied().unwrap_or(-1);
    let (rows, columns) = (reader.signed(group, "row")?, reader.signed(group, "column")?);
    Ok(SumGroup { statistic, layer, rows, columns, sums: reader.signed(group, "sum")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_back_as_they_were_and_damage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sums.parquet");
        let some = SumGroup::of("pairs", 3, [(0, 1, 5), (7, 7, 0), (i64::MIN, 2, -4)]);
        let none = SumGroup::of("empty", -1, [(0, 0, 0)]);
        write_sums(&path, [some.clone(), none]).unwrap();
        let mut seen = Vec::new();
        read_sums::<TraceError>(&path, |group| {
            seen.push(group);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [some]);
        assert_eq!(seen[0].cells().collect::<Vec<_>>(), [(0, 1, 5), (i64::MIN, 2, -4)]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read_sums::<TraceError>(&path, |_| Ok(())).is_err());
    }
}

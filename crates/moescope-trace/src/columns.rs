//! Plain columns in and out of Parquet, without nulls.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use moescope_host::replace;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::TraceError;

/// The numbers of one column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cells {
    Unsigned(Vec<u32>),
    Real(Vec<f32>),
    Text(Vec<String>),
    /// Sums, which may be negative.
    Signed(Vec<i64>),
    /// One text in every row.
    Repeated(String, usize),
}

/// Writes row groups of columns: `names` with their Parquet types, the same in every group.
pub(crate) fn write(
    path: &Path,
    fields: &[&str],
    groups: impl IntoIterator<Item = Vec<Cells>>,
) -> std::result::Result<(), TraceError> {
    Ok(replace(path, |file| write_groups(file, fields, groups).map_err(std::io::Error::other))?)
}

fn write_groups(
    file: impl Write + Send,
    fields: &[&str],
    groups: impl IntoIterator<Item = Vec<Cells>>,
) -> Result<()> {
    let schema = format!("message trace {{ {} }}", fields.concat());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by("moescope".into())
        .build();
    let schema = Arc::new(parse_message_type(&schema)?);
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    for group in groups {
        let mut row_group = writer.next_row_group()?;
        for cells in group {
            let mut column = row_group.next_column()?.expect("a group has as many columns as the schema");
            match cells {
                Cells::Unsigned(numbers) => {
                    let numbers: Vec<i32> = numbers.iter().map(|n| n.cast_signed()).collect();
                    column.typed::<Int32Type>().write_batch(&numbers, None, None)?;
                }
                Cells::Real(numbers) => {
                    column.typed::<FloatType>().write_batch(&numbers, None, None)?;
                }
                Cells::Signed(numbers) => {
                    column.typed::<Int64Type>().write_batch(&numbers, None, None)?;
                }
                Cells::Repeated(text, rows) => {
                    let texts = vec![ByteArray::from(text.as_str()); rows];
                    column.typed::<ByteArrayType>().write_batch(&texts, None, None)?;
                }
                Cells::Text(texts) => {
                    let texts: Vec<ByteArray> =
                        texts.iter().map(|text| ByteArray::from(text.as_str())).collect();
                    column.typed::<ByteArrayType>().write_batch(&texts, None, None)?;
                }
            }
            column.close()?;
        }
        row_group.close()?;
    }
    writer.close()?;
    Ok(())
}

/// A Parquet file of which only the footer has been read.
pub(crate) struct ColumnReader {
    file: SerializedFileReader<File>,
}

impl ColumnReader {
    pub(crate) fn open(path: &Path) -> std::result::Result<ColumnReader, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        let file = SerializedFileReader::new(file)
            .map_err(|source| TraceError::Parquet { path: path.into(), source })?;
        Ok(ColumnReader { file })
    }

    pub(crate) fn groups(&self) -> usize {
        self.file.num_row_groups()
    }

    pub(crate) fn unsigned(&self, group: usize, name: &str) -> Result<Vec<u32>> {
        let numbers = self.column::<Int32Type>(group, name)?;
        Ok(numbers.into_iter().map(i32::cast_unsigned).collect())
    }

    pub(crate) fn real(&self, group: usize, name: &str) -> Result<Vec<f32>> {
        self.column::<FloatType>(group, name)
    }

    pub(crate) fn signed(&self, group: usize, name: &str) -> Result<Vec<i64>> {
        self.column::<Int64Type>(group, name)
    }

    pub(crate) fn text(&self, group: usize, name: &str) -> Result<Vec<String>> {
        let texts = self.column::<ByteArrayType>(group, name)?;
        texts.iter().map(|text| text.as_utf8().map(str::to_owned)).collect()
    }

    /// Whether a group has a column of this name.
    pub(crate) fn has(&self, group: usize, name: &str) -> bool {
        let columns = self.file.metadata().row_groups().get(group).map(|group| group.columns());
        columns.is_some_and(|all| all.iter().any(|column| column.column_path().string() == name))
    }

    fn column<T: DataType>(&self, group: usize, name: &str) -> Result<Vec<T::T>> {
        let group = self.file.get_row_group(group)?;
        let columns = group.metadata().columns();
        let fits = |index: &usize| {
            let column = &columns[*index];
            column.column_path().string() == name && column.column_type() == T::get_physical_type()
        };
        let index = (0..columns.len()).find(fits).ok_or_else(|| {
            ParquetError::General(format!("there is no column `{name}` of type {}", T::get_physical_type()))
        })?;
        let rows =
            usize::try_from(group.metadata().num_rows()).map_err(|e| ParquetError::External(e.into()))?;
        let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
        let mut values = Vec::new();
        while values.len() < rows {
            let (records, _, _) = reader.read_records(rows - values.len(), None, None, &mut values)?;
            if records == 0 {
                return Err(ParquetError::General(format!(
                    "the column `{name}` ends after {} rows",
                    values.len()
                )));
            }
        }
        Ok(values)
    }
}

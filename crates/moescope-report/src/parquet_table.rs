//! Tables as Parquet files that carry their own meaning.

use std::path::Path;
use std::sync::Arc;

use moescope_base::{Column, ColumnData, Table};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::ReportError;
use crate::whole_file::write_whole;

/// Writes a table as one Parquet file that any query engine reads.
///
/// - **Types:** text is `BYTE_ARRAY` (UTF-8), integers `INT64`, numbers `DOUBLE`; a missing number (NaN) is null.
/// - **Metadata:** `moescope.title`, `moescope.method`, and for each column `moescope.column.NAME` with a JSON
///   object of `unit`, `role` and `meaning`.
///
/// # Errors
/// If the file cannot be written; an older file of that name then stays as it was.
pub fn write_parquet(table: &Table, path: &Path) -> Result<(), ReportError> {
    let metadata = metadata(table)?;
    let refused = |source| ReportError::Parquet { table: table.name().to_owned(), source };
    let bytes = encode(table, metadata).map_err(refused)?;
    write_whole(path, &bytes)
}

/// The file in memory: one row group, compressed with Zstandard. Tables of results are small; what is large goes into
/// traces, which are not written here.
fn encode(table: &Table, metadata: Vec<KeyValue>) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(metadata))
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), schema(table)?, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for column in table.columns() {
        if let Some(writer) = group.next_column()? {
            write_column(writer, &column.data)?;
        }
    }
    group.close()?;
    file.into_inner()
}

/// The columns of the table in their order, all at the top level.
fn schema(table: &Table) -> Result<TypePtr, ParquetError> {
    let fields = table.columns().iter().map(field).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Type::group_type_builder("moescope").with_fields(fields).build()?))
}

/// One column. Only numbers may be missing: text and integers of a table always have a value.
fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let (physical, logical, repetition) = match column.data {
        ColumnData::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
        ColumnData::Integer(_) => (Physical::INT64, None, Repetition::REQUIRED),
        ColumnData::Real(_) => (Physical::DOUBLE, None, Repetition::OPTIONAL),
    };
    let builder = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(builder.with_logical_type(logical).with_repetition(repetition).build()?))
}

/// Writes the entries of a column and closes it. Infinite numbers stay as they are; only NaN is null.
fn write_column(mut writer: SerializedColumnWriter<'_>, data: &ColumnData) -> Result<(), ParquetError> {
    match data {
        ColumnData::Text(text) => {
            let bytes: Vec<ByteArray> = text.iter().map(|t| ByteArray::from(t.as_str())).collect();
            writer.typed::<ByteArrayType>().write_batch(&bytes, None, None)?;
        }
        ColumnData::Integer(integers) => {
            writer.typed::<Int64Type>().write_batch(integers, None, None)?;
        }
        ColumnData::Real(numbers) => {
            // Parquet stores only the present values; the level says for each row whether there is one.
            let present: Vec<f64> = numbers.iter().copied().filter(|x| !x.is_nan()).collect();
            let levels: Vec<i16> = numbers.iter().map(|x| i16::from(!x.is_nan())).collect();
            writer.typed::<DoubleType>().write_batch(&present, Some(&levels), None)?;
        }
    }
    writer.close()
}

/// What the table says about itself, so that a file that is passed on alone can still be understood.
fn metadata(table: &Table) -> Result<Vec<KeyValue>, ReportError> {
    let mut pairs = vec![
        KeyValue::new("moescope.table".to_owned(), table.name().to_owned()),
        KeyValue::new("moescope.title".to_owned(), table.title().to_owned()),
        KeyValue::new("moescope.method".to_owned(), table.method().to_owned()),
    ];
    for column in table.columns() {
        let what = format!("the role of column `{}`", column.name);
        let role = serde_json::to_value(&column.role).map_err(|source| ReportError::Json { what, source })?;
        let value = serde_json::json!({"unit": column.unit, "role": role, "meaning": column.meaning});
        pairs.push(KeyValue::new(format!("moescope.column.{}", column.name), value.to_string()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    fn table() -> Table {
        let value = vec![0.5, f64::NAN, -1e300];
        let [low, high] = Column::interval("loss", "nats", "95 %", vec![f64::NAN; 3], vec![1.0, 2.0, 3.0]);
        let columns = vec![
            Column::key("arm", "architecture", vec!["dense".into(), "moe ≠".into(), "<b>\0".into()]),
            Column::integer_key("layer", "layer", "depth", vec![0, i64::MIN, i64::MAX]),
            Column::estimate("loss", "nats", "validation loss", value),
            low,
            high,
        ];
        Table::new("loss", "Loss by arm", "by hand", columns).unwrap()
    }

    fn reopen(table: &Table) -> SerializedFileReader<File> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write_parquet(table, &path).unwrap();
        SerializedFileReader::new(File::open(&path).unwrap()).unwrap()
    }

    fn fields(table: &Table) -> Vec<Vec<Field>> {
        let rows = reopen(table).into_iter();
        rows.map(|row| row.unwrap().get_column_iter().map(|(_, f)| f.clone()).collect()).collect()
    }

    #[test]
    fn a_table_comes_back_and_missing_numbers_are_null() {
        let found = fields(&table());
        let wanted = [
            [Field::Str("dense".into()), Field::Long(0), Field::Double(0.5), Field::Null, Field::Double(1.0)],
            [Field::Str("moe ≠".into()), Field::Long(i64::MIN), Field::Null, Field::Null, Field::Double(2.0)],
            [
                Field::Str("<b>\0".into()),
                Field::Long(i64::MAX),
                Field::Double(-1e300),
                Field::Null,
                Field::Double(3.0),
            ],
        ];
        assert_eq!(found, wanted.map(Vec::from));
    }

    #[test]
    fn an_empty_table_is_a_file_without_rows() {
        let empty = Table::new("e", "", "", vec![Column::estimate("x", "", "", vec![])]).unwrap();
        assert!(fields(&empty).is_empty());
    }

    #[test]
    fn units_roles_and_meanings_are_in_the_metadata() {
        let reader = reopen(&table());
        let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let lines: Vec<String> =
            pairs.iter().map(|p| format!("{} = {}", p.key, p.value.as_deref().unwrap_or(""))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn the_same_table_gives_the_same_bytes() {
        let bytes = || encode(&table(), metadata(&table()).unwrap()).unwrap();
        assert_eq!(bytes(), bytes());
    }
}

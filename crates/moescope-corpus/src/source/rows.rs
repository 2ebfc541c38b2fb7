//! Documents from a Parquet file: one per row, from the string column `text`.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use crate::document::Document;
use crate::error::CorpusError;

/// The documents of a file; rows whose `text` is null are passed over.
pub(super) fn documents(path: &Path, label: &str) -> Result<Vec<Document>, CorpusError> {
    let problem = |problem: String| CorpusError::Parquet { path: path.into(), problem };
    let file = File::open(path).map_err(|source| CorpusError::Access { path: path.into(), source })?;
    let reader = SerializedFileReader::new(file).map_err(|error| problem(error.to_string()))?;
    let projection = text_column(reader.metadata().file_metadata().schema()).map_err(problem)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|error| problem(error.to_string()))?;
    let mut documents = Vec::new();
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|error| problem(format!("row {}: {error}", index + 1)))?;
        match row.get_column_iter().next() {
            Some((_, Field::Str(text))) => {
                documents.push(Document::new(format!("{label}:{}", index + 1), text))
            }
            Some((_, Field::Null)) | None => {}
            Some((_, other)) => {
                return Err(problem(format!("row {}: `text` is {other}, no string", index + 1)));
            }
        }
    }
    Ok(documents)
}

/// A schema of the `text` column alone, so that no other column is read.
fn text_column(schema: &Type) -> Result<Type, String> {
    let fields = schema.get_fields();
    let Some(column) = fields.iter().find(|field| field.name() == "text") else {
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        return Err(format!("no column `text` among [{}]", names.join(", ")));
    };
    Type::group_type_builder(schema.name())
        .with_fields(vec![column.clone()])
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    fn write(path: &Path, column: &str, texts: &[&str]) {
        packed(path, column, texts, Compression::UNCOMPRESSED);
    }

    fn packed(path: &Path, column: &str, texts: &[&str], compression: Compression) {
        let message = format!("message m {{ required int64 id; required binary {column} (UTF8); }}");
        let schema = Arc::new(parse_message_type(&message).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        let mut ids_column = group.next_column().unwrap().unwrap();
        ids_column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        ids_column.close().unwrap();
        let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
        let mut text_column = group.next_column().unwrap().unwrap();
        text_column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        text_column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn the_text_column_is_found_among_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, "text", &["first", "drugi żółw"]);
        let found = documents(&path, "t").unwrap();
        assert_eq!(found, [Document::new("t:1", "first"), Document::new("t:2", "drugi żółw")]);
    }

    #[test]
    fn every_usual_compression_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let (gzip, brotli, zstd) = (Default::default(), Default::default(), Default::default());
        let all = [
            Compression::SNAPPY,
            Compression::GZIP(gzip),
            Compression::BROTLI(brotli),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(zstd),
        ];
        for compression in all {
            let text = "again and ".repeat(50);
            packed(&path, "text", &[&text], compression);
            assert_eq!(documents(&path, "t").unwrap(), [Document::new("t:1", text)], "{compression:?}");
        }
    }

    #[test]
    fn a_missing_column_lists_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, "body", &["x"]);
        let error = documents(&path, "t").unwrap_err().to_string();
        assert!(error.contains("[id, body]"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, "text", &["x"]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = documents(&path, "t").unwrap_err();
        assert!(matches!(error, CorpusError::Parquet { .. }) && error.to_string().contains("t.parquet"));
    }
}

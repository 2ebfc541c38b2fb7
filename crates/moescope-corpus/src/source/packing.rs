//! Plain, gzip and zstd files as text.

use std::io::Read;
use std::path::Path;

use crate::error::CorpusError;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// The packing that a file name's ending says, and the name without that ending.
    pub(super) fn of(name: &str) -> (&str, Self) {
        if let Some(plain) = name.strip_suffix(".gz") {
            (plain, Packing::Gzip)
        } else if let Some(plain) = name.strip_suffix(".zst") {
            (plain, Packing::Zstd)
        } else {
            (name, Packing::Plain)
        }
    }

    /// The whole file as text.
    pub(super) fn read_text(self, path: &Path) -> Result<String, CorpusError> {
        let bytes =
            std::fs::read(path).map_err(|source| CorpusError::Access { path: path.into(), source })?;
        let bytes = self.unpack(bytes, path)?;
        String::from_utf8(bytes).map_err(|error| CorpusError::NotUtf8 {
            path: path.into(),
            byte: error.utf8_error().valid_up_to(),
        })
    }

    fn unpack(self, bytes: Vec<u8>, path: &Path) -> Result<Vec<u8>, CorpusError> {
        let (format, result) = match self {
            Packing::Plain => return Ok(bytes),
            Packing::Gzip => {
                let mut text = Vec::new();
                // A gzip file may hold several members, one after the other.
                let read = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text);
                ("gzip", read.map(|_| text))
            }
            Packing::Zstd => ("zstd", zstd::decode_all(&bytes[..])),
        };
        result.map_err(|source| CorpusError::Packed { path: path.into(), format, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> Result<String, CorpusError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Packing::of(name).1.read_text(&path)
    }

    #[test]
    fn packed_text_reads_like_plain_text() {
        assert_eq!(read("a.txt", "żółw".as_bytes()).unwrap(), "żółw");
        assert_eq!(read("a.txt.gz", &gzip("żółw".as_bytes())).unwrap(), "żółw");
        assert_eq!(read("a.txt.zst", &zstd::encode_all("żółw".as_bytes(), 3).unwrap()).unwrap(), "żółw");
    }

    #[test]
    fn several_gzip_members_are_joined() {
        let bytes = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read("a.txt.gz", &bytes).unwrap(), "one two");
    }

    #[test]
    fn the_first_wrong_byte_is_named() {
        let error = read("a.txt", b"ab\xffcd").unwrap_err();
        assert!(matches!(error, CorpusError::NotUtf8 { byte: 2, .. }), "{error}");
        let error = read("a.txt.gz", &gzip(b"abc\xc3")).unwrap_err();
        assert!(matches!(error, CorpusError::NotUtf8 { byte: 3, .. }), "{error}");
    }

    #[test]
    fn cut_and_foreign_files_are_refused() {
        let whole = gzip(b"some text that is long enough to be cut");
        let error = read("a.txt.gz", &whole[..whole.len() - 9]).unwrap_err();
        assert!(error.to_string().contains("a.txt.gz"), "{error}");
        let whole = zstd::encode_all(&b"some text that is long enough"[..], 3).unwrap();
        assert!(matches!(read("a.txt.zst", &whole[..whole.len() - 2]), Err(CorpusError::Packed { .. })));
        assert!(matches!(
            read("a.jsonl.zst", b"not packed"),
            Err(CorpusError::Packed { format: "zstd", .. })
        ));
    }
}

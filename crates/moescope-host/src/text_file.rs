//! Files read whole: as text, or only for their hash.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::HostError;

/// Reads a text file.
///
/// # Errors
/// [`HostError::File`], or [`HostError::NotUtf8`] with the offset of the first byte that belongs to no character.
pub fn read_text(path: &Path) -> Result<String, HostError> {
    let bytes = std::fs::read(path).map_err(|source| HostError::file("read", path, source))?;
    String::from_utf8(bytes)
        .map_err(|error| HostError::NotUtf8 { path: path.into(), offset: error.utf8_error().valid_up_to() })
}

/// BLAKE3 of a file in hexadecimal, read piece by piece; what `b3sum` prints.
///
/// # Errors
/// [`HostError::File`].
pub fn hash_file(path: &Path) -> Result<String, HostError> {
    let failed = |source| HostError::file("read", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(read) => drop(hasher.update(&piece[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Line and column of a byte of a text, both counted from one, the column in characters.
pub fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// BLAKE3 of a text, as [`hash_file`] gives it of a file with that text.
pub fn hash_text(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let text = "a = 1\né = 2\n";
        assert_eq!(line_and_column(text, text.find("= 2").unwrap()), (2, 3));
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 100), (3, 1));
    }

    #[test]
    fn a_wrong_byte_is_named_with_file_and_offset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, b"ok \xff").unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.contains("a.toml") && error.contains("offset 3"), "{error}");
        assert!(read_text(folder.path()).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn the_hash_is_that_of_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let content = vec![7; 200_000];
        std::fs::write(&path, &content).unwrap();
        assert_eq!(hash_file(&path).unwrap(), blake3::hash(&content).to_hex().to_string());
        std::fs::write(&path, "").unwrap();
        assert!(hash_file(&path).unwrap().starts_with("af1349b9")); // as published for no input
    }
}

//! Whether a file is the one that the hub names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use moescope_host::HostError;
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The hash of a file in the kind that a name has: `None` if the name is of no kind that is known.
///
/// The hub calls a large file by its SHA-256 (64 hexadecimal digits) and a small one as git does, by the SHA-1 of
/// `blob LENGTH`, a zero byte and the content (40 digits). SHA-1 guards against accidents alone.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn hash_like(name: &str, path: &Path) -> Result<Option<String>, HostError> {
    let failed = |source| HostError::file("read", path, source);
    if !name.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let kind: &'static Algorithm = match name.len() {
        64 => &SHA256,
        40 => &SHA1_FOR_LEGACY_USE_ONLY,
        _ => return Ok(None),
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Context::new(kind);
    if name.len() == 40 {
        hash.update(format!("blob {}\0", file.metadata().map_err(failed)?.len()).as_bytes());
    }
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => hash.update(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Some(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "hello\n").unwrap();
        let hash = |name: &str| hash_like(name, &path).unwrap();
        // `printf 'hello\n' | sha256sum`, and `… | git hash-object --stdin`.
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(hash(&"0".repeat(64)).as_deref(), Some(sha256));
        assert_eq!(hash(&"0".repeat(40)).as_deref(), Some("ce013625030ba8dba906f756967f9e9ca394464a"));
        assert_eq!(hash("large-12"), None);
        assert_eq!(hash("abc"), None);
    }
}

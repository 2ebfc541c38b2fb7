//! The container of the shipped corpus: JSON lines inside zstd.
//!
//! Each line is `{"domain": …, "name": …, "text": …}`; the lines of a domain follow one another.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::document::{Document, Domain};
use crate::error::{CorpusError, json_problem};

/// zstd level of a shipped file: the strongest that needs no special decoder settings.
const LEVEL: i32 = 19;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    domain: String,
    name: String,
    text: String,
}

/// Packs domains into the bytes of a container.
///
/// The same domains give the same bytes.
///
/// # Errors
/// [`CorpusError::Packed`] when the encoder fails.
pub fn pack(domains: &[Domain]) -> Result<Vec<u8>, CorpusError> {
    let mut lines = String::new();
    for domain in domains {
        for document in &domain.documents {
            let line = Line {
                domain: domain.name.clone(),
                name: document.name.clone(),
                text: document.text.clone(),
            };
            lines.push_str(&serde_json::to_string(&line).expect("strings always serialise"));
            lines.push('\n');
        }
    }
    zstd::encode_all(lines.as_bytes(), LEVEL).map_err(|source| CorpusError::Packed {
        path: "container".into(),
        format: "zstd",
        source,
    })
}

/// Unpacks a container; `path` is only for messages.
///
/// # Errors
/// [`CorpusError::Packed`] for broken zstd, [`CorpusError::JsonLine`] for a broken line.
pub fn unpack(bytes: &[u8], path: &Path) -> Result<Vec<Domain>, CorpusError> {
    let mut lines = String::new();
    zstd::Decoder::new(bytes)
        .and_then(|mut decoder| decoder.read_to_string(&mut lines))
        .map_err(|source| CorpusError::Packed { path: path.into(), format: "zstd", source })?;
    let mut domains: Vec<Domain> = Vec::new();
    for (index, text) in lines.lines().enumerate() {
        let line: Line = serde_json::from_str(text).map_err(|error| CorpusError::JsonLine {
            path: path.into(),
            line: index + 1,
            problem: json_problem(&error),
        })?;
        let document = Document::new(line.name, line.text);
        match domains.last_mut() {
            Some(last) if last.name == line.domain => last.documents.push(document),
            _ => domains.push(Domain::new(line.domain, vec![document])),
        }
    }
    Ok(domains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Domain> {
        vec![
            Domain::new("a", vec![Document::new("1", "line\nline \"q\""), Document::new("2", "é")]),
            Domain::new("b", vec![Document::new("1", "x")]),
        ]
    }

    #[test]
    fn unpacking_gives_back_what_was_packed() {
        let bytes = pack(&sample()).unwrap();
        assert_eq!(unpack(&bytes, Path::new("c")).unwrap(), sample());
        assert_eq!(bytes, pack(&sample()).unwrap());
    }

    #[test]
    fn a_cut_container_is_an_error_with_its_name() {
        let bytes = pack(&sample()).unwrap();
        let error = unpack(&bytes[..bytes.len() - 3], Path::new("c.zst")).unwrap_err();
        assert!(error.to_string().contains("c.zst"), "{error}");
    }

    #[test]
    fn a_line_that_is_no_document_is_named() {
        let bytes = zstd::encode_all(&b"{\"domain\":\"a\"}\n"[..], 1).unwrap();
        let error = unpack(&bytes, Path::new("c")).unwrap_err();
        assert!(matches!(error, CorpusError::JsonLine { line: 1, .. }), "{error}");
    }
}

//! Documents from JSON lines: one object per line with a string field `text`.

use std::path::Path;

use serde_json::Value;

use crate::document::Document;
use crate::error::{CorpusError, json_problem};

/// The documents of a file's text; blank lines are passed over, other fields ignored.
pub(super) fn documents(text: &str, path: &Path, label: &str) -> Result<Vec<Document>, CorpusError> {
    let mut documents = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let problem = |problem: String| CorpusError::JsonLine { path: path.into(), line: index + 1, problem };
        let value: Value = serde_json::from_str(line).map_err(|error| problem(json_problem(&error)))?;
        let field = value.get("text").ok_or_else(|| problem("no field `text`".into()))?;
        let text = field.as_str().ok_or_else(|| problem(format!("`text` is {}, no string", kind(field))))?;
        documents.push(Document::new(format!("{label}:{}", index + 1), text));
    }
    Ok(documents)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> String {
        documents(text, Path::new("f.jsonl"), "f.jsonl").unwrap_err().to_string()
    }

    #[test]
    fn other_fields_are_ignored() {
        let found = documents("{\"id\":1,\"text\":\"a\\nb\"}", Path::new("f"), "f").unwrap();
        assert_eq!(found, [Document::new("f:1", "a\nb")]);
    }

    #[test]
    fn the_broken_line_is_named() {
        let message = failure("{\"text\":\"a\"}\n{text");
        assert!(message.contains("f.jsonl line 2: key must be a string at column 2;"), "{message}");
        assert!(failure("\n{\"body\":\"a\"}").contains("line 2: no field `text`"));
        assert!(failure("{\"text\":7}").contains("`text` is a number"));
        assert!(failure("[1]").contains("no field `text`"));
    }
}

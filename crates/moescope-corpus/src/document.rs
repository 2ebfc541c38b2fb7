//! Documents and domains: text before it becomes tokens.

/// One piece of text with natural boundaries: a chapter, a speech, a source file, an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where the text came from, for a person to read; unique within its domain by convention.
    pub name: String,
    /// The text, UTF-8, without markup.
    pub text: String,
}

impl Document {
    /// A document from its name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// Documents of one kind, such as `novels` or `rust`.
///
/// A domain is a label given from outside. It does not say that its documents share a topic, a
/// language, or a vocabulary, nor that other domains do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The domain's name, unique in its corpus.
    pub name: String,
    /// Its documents, in the order of the source.
    pub documents: Vec<Document>,
}

impl Domain {
    /// A domain from its name and documents.
    pub fn new(name: impl Into<String>, documents: Vec<Document>) -> Self {
        Self { name: name.into(), documents }
    }

    /// Bytes of text in all documents.
    pub fn bytes(&self) -> usize {
        self.documents.iter().map(|document| document.text.len()).sum()
    }

    /// BLAKE3 of names and texts in order, each preceded by its length: equal for equal domains however they are stored.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let documents = self.documents.iter().flat_map(|document| [&document.name, &document.text]);
        for text in std::iter::once(&self.name).chain(documents) {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_utf8_not_characters() {
        let domain = Domain::new("d", vec![Document::new("a", "é"), Document::new("b", "xy")]);
        assert_eq!(domain.bytes(), 4);
    }

    #[test]
    fn a_hash_tells_apart_what_runs_together() {
        let hash = |a: &str, b: &str| Domain::new("d", vec![Document::new(a, b)]).hash();
        assert_eq!(hash("a", "bc"), hash("a", "bc"));
        assert_ne!(hash("a", "bc"), hash("ab", "c"));
    }
}

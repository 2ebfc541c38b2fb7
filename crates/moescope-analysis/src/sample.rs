use moescope_base::Tokens;

use crate::{AnalysisError, check};

/// A batch of token sequences with the document of every token.
///
/// Documents are the independent units within one model: tokens of one document share topic, words and author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    tokens: Tokens,
    documents: Vec<u32>,
}

impl Sample {
    /// A batch with `documents[batch, pos]`, row-major as the ids are.
    ///
    /// # Errors
    /// If there is not one document for each token.
    pub fn new(tokens: Tokens, documents: Vec<u32>) -> Result<Sample, AnalysisError> {
        check::same_length("sample", "list of documents", documents.len(), tokens.len())?;
        Ok(Sample { tokens, documents })
    }

    /// A batch whose sequences are one document each, numbered from `first`.
    pub fn one_document_each(tokens: Tokens, first: u32) -> Sample {
        let documents = (0..tokens.len()).map(|row| first + (row / tokens.positions()) as u32).collect();
        Sample { tokens, documents }
    }

    /// The token ids.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Document of every token: `[batch, pos]`.
    pub fn documents(&self) -> &[u32] {
        &self.documents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_a_document() {
        let tokens = Tokens::new(vec![1; 6], 2, 3).unwrap();
        assert!(Sample::new(tokens.clone(), vec![0; 5]).is_err());
        assert_eq!(Sample::one_document_each(tokens, 7).documents(), [7, 7, 7, 8, 8, 8]);
    }
}

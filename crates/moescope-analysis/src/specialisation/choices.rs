use moescope_trace::LayerRouting;

use crate::AnalysisError;

/// What each token chose, as codes: `codes[token, slot]`, each below `values`.
///
/// Experts of a layer have as many slots as a token chooses experts; a set or a path is one code per token.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a> {
    codes: &'a [u32],
    per_token: usize,
    values: usize,
}

impl<'a> Choices<'a> {
    /// Codes with `per_token` slots for each token.
    ///
    /// # Errors
    /// If the codes do not fill whole tokens, or one is not below `values`.
    pub fn new(codes: &'a [u32], per_token: usize, values: usize) -> Result<Choices<'a>, AnalysisError> {
        let method = "choices";
        if per_token == 0 || !codes.len().is_multiple_of(per_token) {
            let wanted = codes.len().next_multiple_of(per_token.max(1));
            return Err(AnalysisError::Length { method, what: "codes", found: codes.len(), wanted });
        }
        match codes.iter().find(|code| **code as usize >= values) {
            Some(code) => Err(AnalysisError::OutOfRange {
                method,
                what: "code",
                found: code.to_string(),
                wanted: format!("below {values}"),
            }),
            None => Ok(Choices { codes, per_token, values }),
        }
    }

    /// The experts that each token chose in a layer.
    pub fn experts(layer: &'a LayerRouting) -> Choices<'a> {
        // The trace has already refused experts that are out of range.
        Choices { codes: &layer.choices, per_token: layer.per_token, values: layer.experts }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.codes.len() / self.per_token
    }

    /// Number of slots of each token.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Number of codes that there may be.
    pub fn values(&self) -> usize {
        self.values
    }

    /// Codes of one token.
    pub fn of(&self, token: usize) -> &'a [u32] {
        &self.codes[token * self.per_token..(token + 1) * self.per_token]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_must_fill_tokens_and_stay_below_the_number_of_values() {
        assert!(Choices::new(&[0, 1, 2], 2, 3).is_err());
        assert!(Choices::new(&[0, 3], 2, 3).is_err());
        assert!(Choices::new(&[0], 0, 3).is_err());
        let choices = Choices::new(&[0, 1, 2, 1], 2, 3).unwrap();
        assert_eq!((choices.tokens(), choices.of(1)), (2, &[2, 1][..]));
    }
}

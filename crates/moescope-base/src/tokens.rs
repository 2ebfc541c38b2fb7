use serde::{Deserialize, Serialize};

/// A batch of token sequences of equal length: `ids[batch, pos]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    ids: Vec<u32>,
    batch: usize,
    positions: usize,
}

/// Token ids that make no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// There is no token at all.
    #[error("{batch} sequences of {positions} token ids hold none; wanted one sequence of one id at least")]
    Empty {
        /// Sequences asked for.
        batch: usize,
        /// Positions asked for.
        positions: usize,
    },
    /// The number of ids is not `batch * positions`.
    #[error("{found} token ids cannot fill a batch of {batch} sequences of {positions}; wanted {}", batch.saturating_mul(*positions))]
    Shape {
        /// Number of ids given.
        found: usize,
        /// Sequences asked for.
        batch: usize,
        /// Positions asked for.
        positions: usize,
    },
}

impl Tokens {
    /// A batch from ids in row-major order.
    ///
    /// # Errors
    /// If the ids do not fill `batch * positions`, or if there would be none.
    pub fn new(ids: Vec<u32>, batch: usize, positions: usize) -> Result<Tokens, TokensError> {
        if ids.is_empty() && (batch == 0 || positions == 0) {
            return Err(TokensError::Empty { batch, positions });
        }
        if batch.checked_mul(positions) != Some(ids.len()) {
            return Err(TokensError::Shape { found: ids.len(), batch, positions });
        }
        Ok(Tokens { ids, batch, positions })
    }

    /// All ids, sequence after sequence.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Length of each sequence.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Number of tokens.
    #[allow(clippy::len_without_is_empty)] // a batch is never empty
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The ids of one sequence.
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.ids[index * self.positions..(index + 1) * self.positions]
    }

    /// For each position the id that follows it in its sequence; `padding` at each sequence's last position.
    pub fn next_ids(&self, padding: u32) -> Vec<u32> {
        (0..self.ids.len())
            .map(|i| if (i + 1) % self.positions == 0 { padding } else { self.ids[i + 1] })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_ids_stay_within_a_sequence() {
        let tokens = Tokens::new(vec![1, 2, 3, 4, 5, 6], 2, 3).unwrap();
        assert_eq!(tokens.next_ids(99), [2, 3, 99, 5, 6, 99]);
        assert_eq!(tokens.sequence(1), [4, 5, 6]);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused() {
        assert!(Tokens::new(vec![1, 2, 3], 2, 2).is_err());
        assert!(Tokens::new(vec![], 0, 0).is_err());
        assert!(Tokens::new(vec![1], usize::MAX, 2).is_err());
    }
}

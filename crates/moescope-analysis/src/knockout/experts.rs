use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One expert of one layer, written `L:E`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExpertId {
    /// Block.
    pub layer: usize,
    /// Expert of its routed layer.
    pub expert: usize,
}

/// A text that names no expert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` names no expert; wanted layer and expert as `L:E`, such as `3:17`")]
pub struct ExpertIdError {
    /// What was found.
    pub found: String,
}

impl fmt::Display for ExpertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.layer, self.expert)
    }
}

impl FromStr for ExpertId {
    type Err = ExpertIdError;

    fn from_str(text: &str) -> Result<ExpertId, ExpertIdError> {
        let number = |part: &str| part.trim().parse().ok();
        let id = text
            .split_once(':')
            .and_then(|(layer, expert)| Some(ExpertId { layer: number(layer)?, expert: number(expert)? }));
        id.ok_or_else(|| ExpertIdError { found: text.to_owned() })
    }
}

impl ExpertId {
    /// The experts of a list such as `3:17,4:0`.
    ///
    /// # Errors
    /// [`ExpertIdError`] for the first entry that names none.
    pub fn list(text: &str) -> Result<Vec<ExpertId>, ExpertIdError> {
        text.split(',').map(|entry| entry.trim().parse()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let list = ExpertId::list("3:17, 4:0").unwrap();
        assert_eq!(list, [ExpertId { layer: 3, expert: 17 }, ExpertId { layer: 4, expert: 0 }]);
        assert_eq!(list[0].to_string(), "3:17");
        for wrong in ["", "3", "3:", "a:1", "3:1:2", "3:-1", "1:2,"] {
            assert!(ExpertId::list(wrong).unwrap_err().to_string().contains("`L:E`"), "{wrong}");
        }
    }
}

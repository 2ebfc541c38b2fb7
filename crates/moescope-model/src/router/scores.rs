//! From router logits to scores.

use moescope_engine::{Tape, Var};

use crate::ModelError;
use crate::description::Score;

/// Scores over all experts, `[token, expert]`.
pub(crate) fn scores(tape: &mut Tape<'_>, logits: Var, score: Score) -> Result<Var, ModelError> {
    Ok(match score {
        Score::Softmax => tape.softmax(logits)?,
        Score::Sigmoid => tape.sigmoid(logits)?,
    })
}

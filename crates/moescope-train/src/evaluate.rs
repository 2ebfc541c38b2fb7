use moescope_base::Tokens;
use moescope_engine::{IGNORE, Mode, Tape};
use moescope_model::{Model, Pass};

use crate::{Batch, TrainError};

/// The salt of random routers outside training: a draw that no training step has made.
pub const EVALUATION_SALT: u64 = u64::MAX;

/// How well a model predicts, token by token.
///
/// Does not show how the numbers scatter over seeds, nor, on training text, more than what was memorised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Cross-entropy in nats of each prediction; 0 where none was asked for.
    pub losses: Vec<f32>,
    /// Whether the wanted token had the largest logit, the smaller id winning a tie; false where none was asked for.
    pub correct: Vec<bool>,
    /// Number of predictions asked for.
    pub predictions: usize,
}

impl Evaluation {
    /// Mean loss in nats per prediction.
    pub fn mean_loss(&self) -> f64 {
        self.losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / self.predictions as f64
    }

    /// Share of right predictions, from 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct.iter().filter(|correct| **correct).count() as f64 / self.predictions as f64
    }

    fn append(&mut self, mut other: Evaluation) {
        self.losses.append(&mut other.losses);
        self.correct.append(&mut other.correct);
        self.predictions += other.predictions;
    }
}

/// Next-token losses of every sequence, `batch` sequences at a time.
///
/// - **Shape:** `tokens[batch, pos]` → losses and flags `[batch, pos - 1]`.
/// - The result does not depend on `batch`, but for rounding.
///
/// # Errors
/// [`TrainError::Evaluation`] for sequences of one token or a `batch` of none; the model's own errors pass through.
pub fn evaluate(model: &Model, tokens: &Tokens, batch: usize) -> Result<Evaluation, TrainError> {
    let positions = tokens.positions();
    if positions < 2 || batch == 0 {
        let problem =
            format!("found sequences of {positions} in batches of {batch}, wanted at least 2 and 1");
        return Err(TrainError::Evaluation { problem });
    }
    let mut whole = Evaluation::default();
    for ids in tokens.ids().chunks(batch * positions) {
        let part = Tokens::new(ids.to_vec(), ids.len() / positions, positions).expect("whole sequences");
        whole.append(without_last(evaluate_batch(model, &Batch::next_token(part))?, positions));
    }
    Ok(whole)
}

/// Losses of the targets of one batch.
///
/// - **Shape:** losses and flags `[batch, pos]`, with zeros where there is no target.
///
/// # Errors
/// The model's and the engine's: among them a batch without any target.
pub fn evaluate_batch(model: &Model, batch: &Batch) -> Result<Evaluation, TrainError> {
    let mut tape = Tape::new(Mode::Inference);
    let mut pass = Pass { salt: EVALUATION_SALT, ..Pass::plain() };
    let forward = model.forward(&mut tape, &batch.tokens, &mut pass)?;
    let loss = tape.cross_entropy(forward.logits, &batch.targets)?;
    let logits = tape.value(forward.logits); // [token, vocab]
    let rows = logits.data().chunks_exact(logits.columns());
    let correct = rows.zip(&batch.targets).map(|(row, target)| *target != IGNORE && largest(row) == *target);
    Ok(Evaluation {
        losses: tape.token_losses(loss).to_vec(),
        correct: correct.collect(),
        predictions: batch.targets.iter().filter(|target| **target != IGNORE).count(),
    })
}

fn without_last(evaluation: Evaluation, positions: usize) -> Evaluation {
    let inner = |index: &usize| !(index + 1).is_multiple_of(positions);
    let kept: Vec<usize> = (0..evaluation.losses.len()).filter(inner).collect();
    Evaluation {
        losses: kept.iter().map(|index| evaluation.losses[*index]).collect(),
        correct: kept.iter().map(|index| evaluation.correct[*index]).collect(),
        predictions: evaluation.predictions,
    }
}

/// Index of the largest entry; the first of several.
fn largest(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(IGNORE, |(index, _)| index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Family, Pattern, plan, trained};
    use crate::{Batches, step};

    #[test]
    fn the_mean_is_the_training_loss_whatever_the_batch() {
        let plan = plan(Family::Moe, 4);
        let model = step::State::start(&plan).unwrap().model;
        let batch = Pattern::of(&plan).batch(0);
        let training = step::measure(&moescope_engine::Cpu, &model, &plan, 0, &batch).unwrap().metrics.loss;
        for at_a_time in [1, 3, 100] {
            let found = evaluate(&model, &batch.tokens, at_a_time).unwrap();
            assert_eq!(found.losses.len(), plan.batch * (plan.positions - 1));
            assert_eq!((found.correct.len(), found.predictions), (found.losses.len(), found.losses.len()));
            assert!((found.mean_loss() - training).abs() < 1e-4, "{} for {training}", found.mean_loss());
        }
    }

    #[test]
    fn a_model_that_learned_the_pattern_predicts_it() {
        let plan = plan(Family::Dense, 60);
        let batches = Pattern::of(&plan);
        let model = trained(&plan, &batches).model;
        let batch = batches.batch(1);
        let found = evaluate(&model, &batch.tokens, 2).unwrap();
        assert!(found.accuracy() > 0.5, "{}", found.accuracy());
        let mut targets = batch.targets.clone();
        targets[1..].fill(IGNORE);
        let first = evaluate_batch(&model, &Batch { tokens: batch.tokens, targets }).unwrap();
        assert_eq!((first.predictions, first.losses[0]), (1, found.losses[0]));
        assert!(first.losses[1..].iter().all(|loss| *loss == 0.0) && !first.correct[1]);
    }

    #[test]
    fn the_first_of_equal_logits_wins() {
        assert_eq!(largest(&[0.0, 2.0, 2.0]), 1);
        assert_eq!(largest(&[1.0, 1.0]), 0);
    }

    #[test]
    fn sequences_without_a_next_token_are_refused() {
        let model = step::State::start(&plan(Family::Dense, 1)).unwrap().model;
        let single = Tokens::new(vec![1, 2], 2, 1).unwrap();
        assert!(evaluate(&model, &single, 4).unwrap_err().to_string().contains("sequences of 1"));
        let pair = Tokens::new(vec![1, 2], 1, 2).unwrap();
        assert!(evaluate(&model, &pair, 0).is_err());
    }
}

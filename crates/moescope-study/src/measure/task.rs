//! Results on the synthetic tasks.

use moescope_corpus::Split;
use moescope_corpus::tasks::Task;
use moescope_model::Model;
use moescope_train::{Batch, Evaluation, evaluate_batch};
use serde::{Deserialize, Serialize};

use crate::StudyError;
use crate::tasks::task_seed;

/// Sequences in one pass of the test.
const BATCH: usize = 32;
/// Passes of the test, for tasks whose test examples never end.
const PASSES: u64 = 8;

/// How well a model does on a synthetic task, over the answers alone: what leads up to them is not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskMeasure {
    /// Share of right answers, 0 to 1; beside it stands the accuracy of guessing in [`crate::TaskFacts`].
    pub accuracy: f64,
    /// Mean loss of the answers, in nats for each answer token.
    pub loss: f64,
    /// For facts: bits recalled per parameter, all parameters counted, from 0. A mean loss worse than guessing counts
    /// as nothing, though single facts may be known.
    pub bits_per_parameter: Option<f64>,
}

impl TaskMeasure {
    /// Tests on data of the same seed as the training: the same facts, and the pairs that arithmetic has held out.
    pub(crate) fn of(model: &Model, task: &Task, seed: u64) -> Result<TaskMeasure, StudyError> {
        let (mut loss, mut right, mut answers) = (0.0, 0.0, 0.0);
        for step in 0..passes(task) {
            let examples = task.batch(task_seed(seed), Split::Test, step, BATCH)?;
            let batch = Batch { tokens: examples.tokens().clone(), targets: examples.targets().to_vec() };
            let evaluation: Evaluation = evaluate_batch(model, &batch)?;
            let count = evaluation.predictions as f64;
            loss += evaluation.mean_loss() * count;
            right += evaluation.accuracy() * count;
            answers += count;
        }
        let loss = loss / answers;
        let parameters = model.description().counts().parameters_total as f64;
        let bits = match task {
            Task::Facts(facts) => Some(facts.bits_recalled(loss) / parameters),
            _ => None,
        };
        Ok(TaskMeasure { accuracy: right / answers, loss, bits_per_parameter: bits })
    }
}

/// Enough passes to see every fact once, or a fixed number for the tasks that draw new examples.
fn passes(task: &Task) -> u64 {
    match task {
        Task::Facts(facts) => facts.facts().div_ceil(BATCH * facts.facts_per_sequence()) as u64,
        _ => PASSES,
    }
}

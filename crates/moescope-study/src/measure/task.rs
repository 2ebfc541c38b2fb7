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

/// How well a model does on a synthetic task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskMeasure {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean loss of the answers, in nats.
    pub loss: f64,
    /// For facts: bits recalled per parameter, all parameters counted.
    pub bits_per_parameter: Option<f64>,
}

impl TaskMeasure {
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

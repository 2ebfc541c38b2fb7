//! The synthetic tasks of question 5, and the seeds of their data.
//!
//! On text nobody knows what a right answer would have needed. These tasks need one thing each: looking back, memory,
//! or a rule.

use std::collections::BTreeMap;

use moescope_base::Seed;
use moescope_corpus::tasks::{KeyValueRecall, MemorisedFacts, ModularArithmetic, Task};

use crate::StudyError;
use crate::roster::Workload;

/// The synthetic tasks of question 5, of sizes at which small models differ: neither hopeless nor solved at once.
///
/// # Errors
/// None for these sizes.
pub(crate) fn tasks() -> Result<BTreeMap<Workload, Task>, StudyError> {
    Ok(BTreeMap::from([
        // Many queries for each context: most of a sequence is then something to learn from. Few keys: how soon looking
        // back is learned depends on how often each key is seen.
        (Workload::Recall, Task::Recall(KeyValueRecall::new(4, 12, 8, 16)?)),
        // 4,096 facts of two values from 32: 40,960 bits, so that no model is done within the budget.
        (Workload::Facts, Task::Facts(MemorisedFacts::new(4096, 2, 64, 2, 32, 16)?)),
        (Workload::Arithmetic, Task::Modular(ModularArithmetic::preset())),
    ]))
}

/// The task of a workload; none for language.
pub(crate) fn task_of(tasks: &BTreeMap<Workload, Task>, workload: Workload) -> Option<&Task> {
    tasks.get(&workload)
}

/// The seed of a task's data: facts and splits belong to it, so training and test must use the same one. It differs
/// from the seed of the weights, so that what is drawn for the one does not follow the other.
pub(crate) fn task_seed(seed: u64) -> Seed {
    Seed(seed).child("task")
}

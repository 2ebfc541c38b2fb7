//! Batches from the corpus crate: windows of text, and synthetic tasks.

use moescope_base::Seed;
use moescope_corpus::tasks::Task;
use moescope_corpus::{Balance, BatchOrder, CorpusError, Split, WindowSet};

use crate::{Batch, Batches};

/// Windows of text in the order of a seed; every window is a sequence of its own.
#[derive(Clone, Debug)]
pub struct WindowBatches {
    windows: WindowSet,
    order: BatchOrder,
}

impl WindowBatches {
    /// The order of `seed`, `batch` windows per step.
    ///
    /// The order depends on nothing else, so all models of a seed see the same windows at the same steps.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for a batch of none.
    pub fn new(windows: WindowSet, seed: Seed, batch: usize, balance: Balance) -> Result<Self, CorpusError> {
        let order = BatchOrder::new(seed, &windows, batch, balance)?;
        Ok(WindowBatches { windows, order })
    }

    /// The windows.
    pub fn windows(&self) -> &WindowSet {
        &self.windows
    }
}

impl Batches for WindowBatches {
    fn batch(&self, step: u64) -> Batch {
        let tokens = self.windows.batch(&self.order.batch(step));
        Batch::next_token(tokens.expect("an order of no windows is refused when it is made"))
    }

    fn content(&self) -> String {
        self.windows.hash()
    }
}

/// Training examples of a synthetic task; the loss is taken at answers alone.
#[derive(Clone, Debug)]
pub struct TaskBatches {
    task: Task,
    seed: Seed,
    batch: usize,
}

impl TaskBatches {
    /// The training split of a task under `seed`, `batch` sequences per step.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for a batch of none.
    pub fn new(task: Task, seed: Seed, batch: usize) -> Result<Self, CorpusError> {
        task.batch(seed, Split::Train, 0, batch)?;
        Ok(TaskBatches { task, seed, batch })
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }
}

impl Batches for TaskBatches {
    fn batch(&self, step: u64) -> Batch {
        let examples = self.task.batch(self.seed, Split::Train, step, self.batch);
        let examples = examples.expect("a batch of no sequences is refused when it is made");
        Batch { tokens: examples.tokens().clone(), targets: examples.targets().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_corpus::{Corpus, Document, Domain, SplitCorpus, SplitShares, TokenSet, Tokenizer};
    use moescope_engine::IGNORE;

    fn windows() -> WindowSet {
        let text = |word: &str| {
            let line = |number| format!("{word} number {number} of a long list of {word}s");
            (0..400).map(line).collect::<Vec<_>>().join("\n\n")
        };
        let domain = |name: &str| Domain::new(name, vec![Document::new("list", text(name))]);
        let corpus = Corpus::new(vec![domain("cat"), domain("dog")]).unwrap();
        let split = SplitCorpus::new(&corpus, SplitShares::default()).unwrap();
        let texts: Vec<&str> = split.documents(0, Split::Train).map(|(_, d)| d.text.as_str()).collect();
        let tokenizer = Tokenizer::train(texts, 300).unwrap();
        WindowSet::new(TokenSet::encode(&split, Split::Train, &tokenizer).unwrap(), 16).unwrap()
    }

    #[test]
    fn window_batches_repeat_and_follow_the_seed() {
        let of = |seed| WindowBatches::new(windows(), Seed(seed), 4, Balance::Equal).unwrap();
        let batch = of(1).batch(5);
        assert_eq!(batch, of(1).batch(5));
        assert_ne!(batch, of(2).batch(5));
        assert_eq!((batch.tokens.batch(), batch.tokens.positions()), (4, 16));
        assert_eq!(batch.targets[..15], batch.tokens.sequence(0)[1..]);
        assert!(WindowBatches::new(windows(), Seed(1), 0, Balance::Equal).is_err());
    }

    #[test]
    fn task_batches_ask_for_answers_alone() {
        for task in Task::presets() {
            let batches = TaskBatches::new(task, Seed(1), 3).unwrap();
            let batch = batches.batch(2);
            let asked = batch.targets.iter().filter(|target| **target != IGNORE).count();
            assert!(asked > 0 && asked < batch.targets.len() - 1, "{}", batches.task().name());
            assert_eq!(batch, batches.batch(2));
            assert!(TaskBatches::new(batches.task().clone(), Seed(1), 0).is_err());
        }
    }
}

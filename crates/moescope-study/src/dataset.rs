//! The text of a study: split, tokenised, cut into windows, the same for every model.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use moescope_base::{Seed, Tokens};
use moescope_corpus::{Balance, Corpus, PreparedText, Tokenizer, WindowSet};
use moescope_trace::TokenTable;
use moescope_train::WindowBatches;
use serde::{Deserialize, Serialize};

use crate::{StudyConfig, StudyError};

/// Tokens in one forward pass of an instrument: enough to fill the caches, little enough for memory.
const PASS_TOKENS: usize = 2048;

/// The text of a study, tokenised and cut into windows.
///
/// A tokenizer that is trained here sees the training split only, and windows come from one document collection split beforehand, so
/// nothing of the validation text reaches a model. The test split stays untouched by studies.
#[derive(Debug)]
pub struct Dataset {
    tokenizer: Tokenizer,
    training: WindowSet,
    validation: WindowSet,
    facts: DatasetFacts,
}

/// What the answers need to know about the text, so that concluding needs no corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// Domains in order; indices of domains elsewhere refer to it.
    pub domain_names: Vec<String>,
    /// Entries of the vocabulary as trained, or as the tokenizer brought it.
    pub vocabulary: usize,
    /// Tokens of the training split, all domains together. A run may see them more than once, or not all of them.
    pub training_tokens: usize,
    /// Tokens of the validation windows: windows × positions. The first of a window is not predicted.
    pub validation_tokens: usize,
    /// Different documents in the validation windows. None of them is in the training split, but see `cut_domains`.
    pub validation_documents: usize,
    /// Domains of fewer than three documents, which were cut: passages of the same documents are in training.
    pub cut_domains: Vec<String>,
    /// Mean over the domains of the entropy of single tokens under the mixture of all domains, in nats: what a model
    /// that knows only frequencies would have as its loss on the validation windows.
    pub unigram_entropy: f64,
    /// Hash of the training windows with their provenance: two studies with equal hashes trained on the same text.
    pub training_hash: String,
    /// Hash of the validation windows.
    pub validation_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
}

impl Dataset {
    /// Reads the corpus of a study, trains or reads its tokenizer and cuts its windows.
    ///
    /// Everything follows from the corpus and the configuration; no seed is involved, so every repetition has the
    /// same text and they differ in the order of it.
    ///
    /// # Errors
    /// [`StudyError::Stopped`] soon after `stop` is set; [`StudyError::OneDomain`]; or if the corpus is missing, damaged or too
    /// small for the windows asked for, or the tokenizer is.
    pub fn prepare(config: &StudyConfig, stop: &AtomicBool) -> Result<Dataset, StudyError> {
        let config = config.clone();
        or_stopped("preparing the text", stop, move || Dataset::read(&config))
    }

    fn read(config: &StudyConfig) -> Result<Dataset, StudyError> {
        let corpus = Corpus::named(&config.data.corpus)?;
        if let [only] = corpus.domains() {
            return Err(StudyError::OneDomain { domain: only.name.clone() });
        }
        let text = PreparedText::cut(&corpus, &config.data.tokens()?, config.data.positions)?;
        let text =
            PreparedText { validation: text.validation.evaluation(config.data.evaluation_windows)?, ..text };
        let facts = facts(&text);
        let PreparedText { tokenizer, training, validation, .. } = text;
        Ok(Dataset { tokenizer, training, validation, facts })
    }

    /// What the answers need to know.
    pub fn facts(&self) -> &DatasetFacts {
        &self.facts
    }

    /// The byte-level tokenizer; a copy goes into the folder of each language run, which makes the folder complete.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The text of each token by id, for people.
    pub fn words(&self) -> Vec<String> {
        (0..self.facts.vocabulary as u32).map(|id| self.tokenizer.text(id).to_owned()).collect()
    }

    /// The training batches of a seed: the same windows in the same order for every family, so that families of one
    /// seed can be compared in pairs. Every domain is drawn equally often, whatever its size.
    ///
    /// # Errors
    /// If the batch is empty.
    pub fn batches(&self, seed: u64, batch: usize) -> Result<WindowBatches, StudyError> {
        Ok(WindowBatches::new(self.training.clone(), Seed(seed).child("data"), batch, Balance::Equal)?)
    }

    /// The validation windows as passes, domain after domain, each pass within one domain and of about 2048 tokens or
    /// one window.
    ///
    /// # Errors
    /// None for windows that exist.
    pub fn validation_passes(&self) -> Result<Vec<Pass>, StudyError> {
        passes(&self.validation, &self.tokenizer)
    }

    /// As many training windows for each domain as there are validation windows, as passes. Instruments that choose
    /// something by looking (such as the most used expert sets) look here and are judged on validation text.
    ///
    /// # Errors
    /// If a domain has fewer training than validation windows.
    pub fn training_passes(&self) -> Result<Vec<Pass>, StudyError> {
        passes(&self.training.evaluation(self.validation.windows_in(0))?, &self.tokenizer)
    }
}

/// Does what has no place to stop of its own, and leaves it to itself once `stop` is set. So `make` may run on after the call
/// has returned, and must touch nothing that anybody else uses.
fn or_stopped<T: Send + 'static>(
    doing: &'static str,
    stop: &AtomicBool,
    make: impl FnOnce() -> Result<T, StudyError> + Send + 'static,
) -> Result<T, StudyError> {
    let (sender, receiver) = channel();
    // Nobody receives what is no longer wanted.
    let worker = std::thread::spawn(move || drop(sender.send(make())));
    loop {
        match receiver.recv_timeout(BETWEEN_LOOKS) {
            Ok(made) => return made,
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => {
                return Err(StudyError::Stopped { doing });
            }
            Err(RecvTimeoutError::Timeout) => {}
            // It ended without an answer: a panic, which goes on here.
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a worker that does not panic sends its answer"),
            },
        }
    }
}

/// How often a waiting thread looks whether it should stop.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Windows for one forward pass, and what is known about their tokens.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Input, `[window, position]`.
    pub tokens: Tokens,
    /// Domain of the windows, an index into [`DatasetFacts::domain_names`].
    pub domain: usize,
    /// What is known about each token: ids, next ids, domain, document, position, class; row `window × positions +
    /// position`.
    pub table: TokenTable,
}

/// Cuts windows into passes. A pass never mixes domains, so a mean over a pass belongs to one of them.
fn passes(windows: &WindowSet, tokenizer: &Tokenizer) -> Result<Vec<Pass>, StudyError> {
    let per_pass = (PASS_TOKENS / windows.length()).max(1);
    let mut passes = Vec::new();
    for domain in 0..windows.domains() {
        let first = windows.first_window(domain);
        let all: Vec<usize> = (first..first + windows.windows_in(domain)).collect();
        for chunk in all.chunks(per_pass) {
            let tokens = windows.batch(chunk)?;
            passes.push(Pass { table: token_table(windows, chunk, &tokens, tokenizer), tokens, domain });
        }
    }
    Ok(passes)
}

/// The facts about each token of a chunk of windows, in the row order of the pass. After the last token of a window
/// stands the end token as the next one; instruments that need a true next token leave that position out.
fn token_table(windows: &WindowSet, chunk: &[usize], tokens: &Tokens, tokenizer: &Tokenizer) -> TokenTable {
    let end = tokenizer.end().unwrap_or(0);
    let documents = chunk.iter().flat_map(|&index| {
        let window = windows.window(index);
        window.documents.iter().map(move |document| unique_document(window.domain, *document))
    });
    TokenTable {
        ids: tokens.ids().to_vec(),
        next_ids: tokens.next_ids(end),
        domains: windows.batch_domains(chunk).into_iter().map(|d| d as u16).collect(),
        documents: documents.collect(),
        positions: (0..tokens.len()).map(|i| (i % tokens.positions()) as u32).collect(),
        classes: tokens.ids().iter().map(|id| tokenizer.class(*id).number() as u16).collect(),
        domain_names: windows.domain_names().to_vec(),
        class_names: moescope_corpus::TokenClass::ALL.iter().map(|c| c.name().to_owned()).collect(),
    }
}

/// Documents are numbered within their domain; across domains the number must not repeat, because permutations and
/// resampling take the document as their unit. Holds up to 2^20 documents in a domain.
fn unique_document(domain: usize, document: u32) -> u32 {
    (domain as u32) << 20 | document
}

/// Collects what concluding needs, once, right after the windows are cut.
fn facts(text: &PreparedText) -> DatasetFacts {
    let PreparedText { tokenizer, training, validation, cut_domains } = text;
    DatasetFacts {
        domain_names: training.domain_names().to_vec(),
        vocabulary: tokenizer.vocabulary(),
        training_tokens: training.token_set().tokens(),
        validation_tokens: validation.len() * validation.length(),
        validation_documents: documents(validation),
        cut_domains: cut_domains.clone(),
        unigram_entropy: mixture_entropy(training, validation),
        training_hash: training.hash(),
        validation_hash: validation.hash(),
        tokenizer_hash: tokenizer.hash(),
    }
}

/// Different documents that windows hold tokens of.
fn documents(windows: &WindowSet) -> usize {
    let of_window = |index| {
        let window = windows.window(index);
        window.documents.iter().map(move |document| unique_document(window.domain, *document))
    };
    (0..windows.len()).flat_map(of_window).collect::<BTreeSet<u32>>().len()
}

/// Cross-entropy on the validation windows of the frequencies of single tokens in the training text, every domain
/// weighing equally in both, with one added to each count so that unseen tokens cost something finite.
fn mixture_entropy(training: &WindowSet, validation: &WindowSet) -> f64 {
    let vocabulary = training.token_set().vocabulary();
    let domains = training.domains();
    let mut probability = vec![0.0_f64; vocabulary];
    for domain in 0..domains {
        let ids = training.token_set().domain_ids(domain);
        let weight = 1.0 / (domains as f64 * (ids.len() + vocabulary) as f64);
        probability.iter_mut().for_each(|p| *p += weight);
        ids.iter().for_each(|id| probability[*id as usize] += weight);
    }
    let loss = |window: usize| -> f64 {
        let ids = &validation.window(window).ids[1..];
        ids.iter().map(|id| -probability[*id as usize].ln()).sum::<f64>() / ids.len() as f64
    };
    (0..validation.len()).map(loss).sum::<f64>() / validation.len() as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The study `smoke` on a corpus of two small domains, written into a folder.
    pub(crate) fn small_study(folder: &Path, word: &str) -> StudyConfig {
        for domain in ["cats", "dogs"] {
            fs::create_dir_all(folder.join(domain)).unwrap();
            for i in 0..60 {
                let text = format!("{domain} {word} number {i} is told of at some length {}. ", i * i);
                fs::write(folder.join(domain).join(format!("{i}.txt")), text.repeat(8)).unwrap();
            }
        }
        let mut config = StudyConfig::parse(StudyConfig::preset_text("smoke").unwrap(), "smoke").unwrap();
        config.data.corpus = folder.to_owned();
        config.data.vocabulary = Some(300);
        config
    }

    fn prepare(config: &StudyConfig) -> Dataset {
        Dataset::prepare(config, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn a_given_tokenizer_makes_the_windows_that_it_made_when_it_was_trained() {
        let scratch = tempfile::tempdir().unwrap();
        let learned = small_study(&scratch.path().join("text"), "word");
        let trained = prepare(&learned);
        let file = scratch.path().join("tokenizer.json");
        trained.tokenizer().save(&file).unwrap();
        let mut given = learned.clone();
        (given.data.vocabulary, given.data.tokenizer) = (None, Some(file));
        assert_eq!(prepare(&given).facts(), trained.facts());

        let mut coarser = learned;
        coarser.data.vocabulary = Some(270);
        assert_ne!(prepare(&coarser).facts().training_hash, trained.facts().training_hash);
    }

    #[test]
    fn a_missing_tokenizer_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let mut config = small_study(scratch.path(), "word");
        (config.data.vocabulary, config.data.tokenizer) = (None, Some("/nowhere/tokenizer.json".into()));
        let error = Dataset::prepare(&config, &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.contains("/nowhere/tokenizer.json"), "{error}");
    }

    #[test]
    fn what_takes_long_is_left_once_it_should_stop() {
        let (_open, wait) = channel::<()>();
        // Without the stop this would wait for ever, since nothing is sent and the sender lives on.
        let forever = move || {
            let _ = wait.recv();
            Ok(())
        };
        let error = or_stopped("waiting", &AtomicBool::new(true), forever).unwrap_err();
        assert!(matches!(error, StudyError::Stopped { doing: "waiting" }), "{error}");
        assert_eq!(or_stopped("adding", &AtomicBool::new(false), || Ok(1 + 1)).unwrap(), 2);
    }
}

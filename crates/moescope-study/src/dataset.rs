use std::path::Path;

use moescope_base::{Seed, Tokens};
use moescope_corpus::{Balance, Corpus, Split, SplitCorpus, SplitShares, TokenSet, Tokenizer, WindowSet};
use moescope_trace::TokenTable;
use moescope_train::WindowBatches;
use serde::{Deserialize, Serialize};

use crate::{StudyConfig, StudyError};

/// Tokens in one forward pass of an instrument: enough to fill the caches, little enough for memory.
const PASS_TOKENS: usize = 2048;

/// The text of a study, tokenised and cut into windows.
#[derive(Debug)]
pub struct Dataset {
    tokenizer: Tokenizer,
    training: WindowSet,
    validation: WindowSet,
    facts: DatasetFacts,
}

/// What the answers need to know about the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// Domains in order.
    pub domain_names: Vec<String>,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Tokens for training.
    pub training_tokens: usize,
    /// Tokens of the validation windows.
    pub validation_tokens: usize,
    /// Mean over the domains of the entropy of single tokens under the mixture of all domains, in nats: what a model
    /// that knows only frequencies would have as its loss on the validation windows.
    pub unigram_entropy: f64,
    /// Hash of the training windows with their provenance.
    pub training_hash: String,
    /// Hash of the validation windows.
    pub validation_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
}

impl Dataset {
    /// Reads the corpus of a study, trains its tokenizer and cuts its windows.
    ///
    /// # Errors
    /// If the corpus is missing, damaged or too small for the windows asked for.
    pub fn prepare(config: &StudyConfig) -> Result<Dataset, StudyError> {
        let corpus = if config.data.corpus == Path::new("embedded") {
            Corpus::embedded()?
        } else {
            Corpus::from_folder(&config.data.corpus)?
        };
        if let [only] = corpus.domains() {
            return Err(StudyError::OneDomain { domain: only.name.clone() });
        }
        let split = SplitCorpus::new(&corpus, SplitShares::default())?;
        let texts: Vec<&str> = (0..split.domains().len())
            .flat_map(|domain| {
                split.documents(domain, Split::Train).map(|(_, document)| document.text.as_str())
            })
            .collect();
        let tokenizer = Tokenizer::train(texts, config.data.vocabulary)?;
        let windows = |part| -> Result<WindowSet, StudyError> {
            Ok(WindowSet::new(TokenSet::encode(&split, part, &tokenizer)?, config.data.positions)?)
        };
        let training = windows(Split::Train)?;
        let validation = windows(Split::Validation)?.evaluation(config.data.evaluation_windows)?;
        let facts = facts(&tokenizer, &training, &validation);
        Ok(Dataset { tokenizer, training, validation, facts })
    }

    /// What the answers need to know.
    pub fn facts(&self) -> &DatasetFacts {
        &self.facts
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The training batches of a seed: the same windows in the same order for every family.
    ///
    /// # Errors
    /// If the batch is empty.
    pub fn batches(&self, seed: u64, batch: usize) -> Result<WindowBatches, StudyError> {
        Ok(WindowBatches::new(self.training.clone(), Seed(seed).child("data"), batch, Balance::Equal)?)
    }

    /// The validation windows as passes, domain after domain, each pass within one domain.
    ///
    /// # Errors
    /// None for windows that exist.
    pub fn validation_passes(&self) -> Result<Vec<Pass>, StudyError> {
        passes(&self.validation, &self.tokenizer)
    }

    /// As many training windows for each domain as there are validation windows, as passes.
    ///
    /// # Errors
    /// If a domain has fewer training than validation windows.
    pub fn training_passes(&self) -> Result<Vec<Pass>, StudyError> {
        passes(&self.training.evaluation(self.validation.windows_in(0))?, &self.tokenizer)
    }
}

/// Windows for one forward pass, and what is known about their tokens.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Input.
    pub tokens: Tokens,
    /// Domain of the windows.
    pub domain: usize,
    /// What is known about each token.
    pub table: TokenTable,
}

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

/// Documents are numbered within their domain; across domains the number must not repeat.
fn unique_document(domain: usize, document: u32) -> u32 {
    (domain as u32) << 20 | document
}

fn facts(tokenizer: &Tokenizer, training: &WindowSet, validation: &WindowSet) -> DatasetFacts {
    DatasetFacts {
        domain_names: training.domain_names().to_vec(),
        vocabulary: tokenizer.vocabulary(),
        training_tokens: training.token_set().tokens(),
        validation_tokens: validation.len() * validation.length(),
        unigram_entropy: mixture_entropy(training, validation),
        training_hash: training.hash(),
        validation_hash: validation.hash(),
        tokenizer_hash: tokenizer.hash(),
    }
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

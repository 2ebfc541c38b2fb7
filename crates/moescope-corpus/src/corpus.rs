//! The corpus: named domains, each with documents.

use std::collections::BTreeSet;
use std::path::Path;

use crate::container;
use crate::document::Domain;
use crate::error::CorpusError;
use crate::source;

/// Text that anyone may copy: public domain, or dedicated to it.
const FREE: &[u8] = include_bytes!("../data/free.jsonl.zst");
/// Polish text under the MPL-2.0, kept apart; see the notice beside it.
const POLISH: &[u8] = include_bytes!("../data/polish.jsonl.zst");

/// Domains with at least one document that is not blank, under names that do not repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    domains: Vec<Domain>,
}

impl Corpus {
    /// A corpus from domains that are already in memory.
    ///
    /// Blank documents are dropped; the order of domains and documents is kept.
    ///
    /// # Errors
    /// [`CorpusError::EmptyDomain`] for a domain without text, [`CorpusError::RepeatedDomain`]
    /// for a name used twice.
    pub fn new(domains: Vec<Domain>) -> Result<Self, CorpusError> {
        let mut names = BTreeSet::new();
        let mut kept = Vec::with_capacity(domains.len());
        for mut domain in domains {
            let files = domain.documents.len();
            domain.documents.retain(|document| !document.text.trim().is_empty());
            if domain.documents.is_empty() {
                return Err(CorpusError::EmptyDomain { domain: domain.name, files });
            }
            if !names.insert(domain.name.clone()) {
                return Err(CorpusError::RepeatedDomain { domain: domain.name });
            }
            kept.push(domain);
        }
        Ok(Self { domains: kept })
    }

    /// The corpus shipped with this crate.
    ///
    /// `data/SOURCES.md` names the package, version, checksum and licence behind each domain.
    ///
    /// # Errors
    /// None in a sound build: the shipped files are checked by this crate's tests.
    pub fn embedded() -> Result<Self, CorpusError> {
        let mut domains = container::unpack(FREE, Path::new("data/free.jsonl.zst"))?;
        domains.extend(container::unpack(POLISH, Path::new("data/polish.jsonl.zst"))?);
        Self::new(domains)
    }

    /// Reads a folder with one sub-folder per domain; see [`crate::source`] for the file kinds.
    ///
    /// # Errors
    /// [`CorpusError`] with the file, and line or byte, of the first problem.
    pub fn from_folder(folder: &Path) -> Result<Self, CorpusError> {
        Self::new(source::read_folder(folder)?)
    }

    /// Reads whatever text is at a path: a file, or a folder of files, of sub-folders that are domains, or of both.
    ///
    /// Loose files are a domain named after the folder, before the others; a single file is one named after itself.
    ///
    /// # Errors
    /// [`CorpusError`] with the file, and line or byte, of the first problem; [`CorpusError::NoText`] where nothing can be read.
    pub fn from_path(path: &Path) -> Result<Self, CorpusError> {
        Self::new(source::read_path(path)?)
    }

    /// The domains, in order; a domain's index here is its number everywhere else.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The domains' names, in order.
    pub fn domain_names(&self) -> Vec<String> {
        self.domains.iter().map(|domain| domain.name.clone()).collect()
    }

    /// Bytes of text in all domains.
    pub fn bytes(&self) -> usize {
        self.domains.iter().map(Domain::bytes).sum()
    }

    /// A corpus of the named domains alone, in the order given; unknown names are left out.
    pub fn only(&self, names: &[&str]) -> Self {
        let find = |name: &&str| self.domains.iter().find(|domain| domain.name == **name).cloned();
        Self { domains: names.iter().filter_map(find).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;

    #[test]
    fn a_domain_of_blanks_is_refused() {
        let blank = Domain::new("blank", vec![Document::new("a", " \n")]);
        let error = Corpus::new(vec![blank]).unwrap_err();
        assert!(matches!(error, CorpusError::EmptyDomain { files: 1, .. }), "{error}");
    }

    #[test]
    fn a_repeated_name_is_refused() {
        let domain = Domain::new("d", vec![Document::new("a", "text")]);
        let error = Corpus::new(vec![domain.clone(), domain]).unwrap_err();
        assert!(error.to_string().contains("`d`"));
    }

    #[test]
    fn the_list_of_sources_has_size_and_checksum_of_every_domain() {
        let sources = include_str!("../data/SOURCES.md");
        for domain in Corpus::embedded().unwrap().domains() {
            let (documents, bytes) = (domain.documents.len(), domain.bytes());
            let line = format!("| {} | {documents} | {bytes} | `{}` |", domain.name, domain.hash());
            assert!(sources.lines().any(|found| found == line), "SOURCES.md lacks\n{line}");
        }
    }

    #[test]
    fn embedded_corpus_has_its_domains_and_sizes() {
        let corpus = Corpus::embedded().unwrap();
        assert!(corpus.domains().len() >= 9, "{:?}", corpus.domain_names());
        assert!(corpus.bytes() >= 2_500_000, "{}", corpus.bytes());
        assert!(FREE.len() + POLISH.len() <= 1_500_000, "{}", FREE.len() + POLISH.len());
        for domain in corpus.domains() {
            assert!(domain.bytes() >= 150_000, "{}: {}", domain.name, domain.bytes());
        }
    }
}

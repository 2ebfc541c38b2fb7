//! A corpus as windows and batches: what every command runs a model on that reads a corpus.
//!
//! There is one way to cut text. A window is of one document: consecutive tokens, as many as were asked for, from the beginning of the
//! document on; what is left at its end and fills none is left out. Of each domain the first windows are taken, until its limit is
//! reached, so a document at the end of a large domain may not be seen at all. A domain without a window is an error: it would
//! otherwise be missing without a word.

use std::iter::repeat_n;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use moescope_base::Tokens;
use moescope_corpus::{Corpus, CorpusError, Document, Domain, TokenClass, Tokenizer};
use moescope_trace::{CorpusWindow, DocumentLabel, TokenTable};

use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::say;

/// The input of one forward pass, and what is known about its tokens in the same order.
pub(crate) type Batch = (Tokens, TokenTable);

/// A corpus cut into windows.
///
/// An example: a document of 300 tokens, cut into windows of 128, gives the windows from 0 and from 128, and
/// 44 tokens are left out. No window is filled up with tokens that are no text, so every token of every pass
/// counts.
pub(crate) struct Windows {
    /// All of one length, in the order of the text.
    pub(crate) windows: Vec<CorpusWindow>,
    /// Domain of each document that was read, an index into the names.
    domains: Vec<u16>,
    /// Documents that were read, by number. Numbers go on through all domains: documents are the independent units.
    pub(crate) documents: Vec<DocumentLabel>,
    /// Tokens of these documents that fill no window.
    pub(crate) left_out: usize,
    domain_names: Vec<String>,
    positions: usize,
}

/// Tokens of a window: what was asked for, or what the model takes if that is less, and then this is said.
pub(crate) fn positions(asked: usize, most: usize, context: &Context) -> usize {
    if asked > most {
        context.progress().note(&format!(
            "windows have {most} tokens, which is all that the model takes, and not {asked} (--positions)"
        ));
    }
    asked.min(most)
}

/// Independent units below which a bootstrap interval is too narrow.
const FEW: usize = 20;

/// Says so where intervals rest on too few units.
///
/// Twenty is no sharp bound. Bootstrap intervals over few units leave out the truth more often than their
/// level says, and below about this number visibly so.
pub(crate) fn tell_few(found: usize, units: &str) {
    if found < FEW {
        say!("with fewer than {FEW} {units} the intervals are too narrow");
    }
}

/// The text of several paths as one corpus. Files are one domain together, each a document or what it holds; folders are as in
/// [`Corpus::from_path`]. A file whose name says no kind of text is read as it is.
///
/// # Errors
/// If a path holds no text, or a domain comes twice.
pub(crate) fn corpus_of(paths: &[PathBuf]) -> Result<Corpus, Failure> {
    let (folders, files): (Vec<_>, Vec<_>) = paths.iter().partition(|path| path.is_dir());
    let mut domains = Vec::new();
    let mut documents = Vec::new();
    for file in files {
        documents.extend(documents_of(file)?);
    }
    if !documents.is_empty() {
        domains.push(Domain::new("text", documents));
    }
    for folder in folders {
        domains.extend(Corpus::from_path(folder)?.domains().iter().cloned());
    }
    Ok(Corpus::new(domains)?)
}

/// The documents of a file.
fn documents_of(path: &Path) -> Result<Vec<Document>, Failure> {
    match Corpus::from_path(path) {
        Ok(corpus) => Ok(corpus.domains().iter().flat_map(|domain| domain.documents.clone()).collect()),
        Err(CorpusError::NoText { .. }) if path.is_file() => {
            Ok(vec![Document::new(path.display().to_string(), moescope_host::read_text(path)?)])
        }
        Err(error) => Err(error.into()),
    }
}

/// The text of every token by its id, as people read it in reports; not what encodes to the token, which may be part of a letter.
pub(crate) fn texts(tokenizer: &Tokenizer) -> Vec<String> {
    (0..tokenizer.vocabulary() as u32).map(|id| tokenizer.text(id).to_owned()).collect()
}

impl Windows {
    /// Cuts a corpus, `limit` tokens of each domain at most.
    ///
    /// # Errors
    /// If the limit is below a window, a domain has no document as long as a window, text cannot be encoded, or the user wishes to stop.
    pub(crate) fn of(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        positions: usize,
        limit: Option<usize>,
        interrupt: &Interrupt,
    ) -> Result<Windows, Failure> {
        let mut all = Windows {
            windows: Vec::new(),
            domains: Vec::new(),
            documents: Vec::new(),
            left_out: 0,
            domain_names: corpus.domain_names(),
            positions,
        };
        let most = limit.map_or(usize::MAX, |limit| limit / positions);
        if most == 0 {
            let asked = limit.unwrap_or(0);
            return Err(Failure::input(format!(
                "--tokens {asked} is less than one window of {positions} tokens; take more tokens, or shorter windows (--positions)"
            )));
        }
        for (number, domain) in corpus.domains().iter().enumerate() {
            let before = all.windows.len();
            for text in &domain.documents {
                if interrupt.flag().load(Ordering::Relaxed) {
                    let message = "interrupted while the text was read; the same command begins anew";
                    return Err(Failure::interrupted(message, interrupt.exit()));
                }
                let room = most - (all.windows.len() - before);
                all.take(&tokenizer.encode(&text.text)?, room);
                all.domains.push(number as u16);
                all.documents.push(DocumentLabel { domain: domain.name.clone(), name: text.name.clone() });
                if all.windows.len() - before == most {
                    break;
                }
            }
            if all.windows.len() == before {
                return Err(Failure::input(format!(
                    "domain `{}` has no document of {positions} tokens; add longer text, or ask for fewer with --positions",
                    domain.name
                )));
            }
        }
        Ok(all)
    }

    /// The first windows of the next document.
    ///
    /// Tokens that would fill windows beyond the room are not counted as left out: they were not asked for.
    fn take(&mut self, ids: &[u32], room: usize) {
        let (positions, document) = (self.positions, self.documents.len() as u32);
        let cut = ids.chunks_exact(positions).take(room).enumerate();
        self.windows.extend(cut.map(|(index, ids)| CorpusWindow {
            document,
            start: (index * positions) as u32,
            ids: ids.to_vec(),
        }));
        self.left_out += ids.len() % positions;
    }

    /// The independent unit of each window, and what units are called: documents where there are several, else windows. Windows of one
    /// document are not independent, so intervals over them are too narrow, and a result says which of the two was taken.
    ///
    /// # Errors
    /// If there are fewer than two windows.
    pub(crate) fn units(&self) -> Result<(Vec<u32>, &'static str), Failure> {
        let (windows, positions) = (&self.windows, self.positions);
        if windows.len() < 2 {
            return Err(Failure::input(format!(
                "the text gives {} windows of {positions} tokens, wanted 2 or more; add text, or ask for shorter windows with --positions",
                windows.len()
            )));
        }
        let several = windows[0].document != windows[windows.len() - 1].document;
        let unit = |(number, window): (usize, &CorpusWindow)| match several {
            true => window.document,
            false => number as u32,
        };
        let name = if several { "documents" } else { "windows" };
        Ok((windows.iter().enumerate().map(unit).collect(), name))
    }

    /// Says so where documents are shorter than a window: none of their tokens is looked at.
    pub(crate) fn tell_short(&self, context: &Context) {
        if let Some(note) = self.short() {
            context.progress().note(&note);
        }
    }

    /// Says so where intervals over documents rest on too few of them.
    pub(crate) fn tell_few(&self, context: &Context) {
        let seen = self.seen();
        if seen.len() < FEW {
            context.progress().note(&format!(
                "the text is of {}; intervals over fewer than {FEW} are too narrow (more --tokens, or more documents)",
                match seen.len() {
                    1 => "1 document".to_owned(),
                    documents => format!("{documents} documents"),
                }
            ));
        }
    }

    /// Documents of which there is a window.
    fn seen(&self) -> std::collections::BTreeSet<u32> {
        self.windows.iter().map(|window| window.document).collect()
    }

    fn short(&self) -> Option<String> {
        let seen = self.seen();
        let (short, all) = (self.documents.len() - seen.len(), self.documents.len());
        let verb = if short == 1 { "is" } else { "are" };
        (short > 0).then(|| {
            format!(
                "{short} of {all} documents {verb} shorter than a window of {} tokens and left out (--positions)",
                self.positions
            )
        })
    }

    /// Tokens of all windows.
    pub(crate) fn tokens(&self) -> usize {
        self.windows.len() * self.positions
    }

    /// Tokens of some windows with their facts: row `window × positions + position`. After the last token of a window
    /// stands the end token as the next one.
    fn batch(&self, windows: &[CorpusWindow], tokenizer: &Tokenizer) -> Result<Batch, Failure> {
        let positions = self.positions;
        let ids: Vec<u32> = windows.iter().flat_map(|window| &window.ids).copied().collect();
        let tokens = Tokens::new(ids, windows.len(), positions)?;
        let documents = || windows.iter().map(|window| window.document);
        let domains = documents().map(|document| self.domains[document as usize]);
        let table = TokenTable {
            ids: tokens.ids().to_vec(),
            next_ids: tokens.next_ids(tokenizer.end().unwrap_or(0)),
            domains: domains.flat_map(|domain| repeat_n(domain, positions)).collect(),
            documents: documents().flat_map(|document| repeat_n(document, positions)).collect(),
            positions: (0..tokens.len()).map(|token| (token % positions) as u32).collect(),
            classes: tokens.ids().iter().map(|id| tokenizer.class(*id).number() as u16).collect(),
            domain_names: self.domain_names.clone(),
            class_names: TokenClass::ALL.iter().map(|class| class.name().to_owned()).collect(),
        };
        Ok((tokens, table))
    }

    /// The windows as batches of at most `sequences`, one forward pass each.
    ///
    /// # Errors
    /// If ids and sizes do not fit, which windows never give cause for.
    pub(crate) fn batches(&self, sequences: usize, tokenizer: &Tokenizer) -> Result<Vec<Batch>, Failure> {
        self.windows.chunks(sequences).map(|chunk| self.batch(chunk, tokenizer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(domains: &[(&str, &[&str])]) -> Corpus {
        let domain = |(name, texts): &(&str, &[&str])| {
            let documents = texts.iter().enumerate().map(|(i, text)| Document::new(i.to_string(), *text));
            Domain::new(*name, documents.collect())
        };
        Corpus::new(domains.iter().map(domain).collect()).unwrap()
    }

    /// One token for each letter.
    fn letters() -> Tokenizer {
        Tokenizer::train([""], 257).unwrap()
    }

    fn cut(corpus: &Corpus, limit: Option<usize>) -> Result<Windows, Failure> {
        Windows::of(corpus, &letters(), 4, limit, &Interrupt::default())
    }

    #[test]
    fn windows_begin_with_their_document_and_what_fills_none_is_counted() {
        let corpus = corpus(&[("a", &["abcdefghij", "xy", "klmn"]), ("b", &["opqrstuv"])]);
        let found = cut(&corpus, None).unwrap();
        let places: Vec<(u32, u32)> = found.windows.iter().map(|w| (w.document, w.start)).collect();
        assert_eq!(places, [(0, 0), (0, 4), (2, 0), (3, 0), (3, 4)]);
        assert_eq!((found.left_out, found.tokens(), found.documents.len()), (4, 20, 4));
        let few = cut(&corpus, Some(4)).unwrap();
        let places: Vec<(u32, u32)> = few.windows.iter().map(|w| (w.document, w.start)).collect();
        assert_eq!(places, [(0, 0), (1, 0)], "the limit of each domain");
        let batches = found.batches(2, &letters()).unwrap();
        assert_eq!(batches.len(), 3);
        assert_eq!(batches[1].1.domains, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(batches[1].1.positions, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn documents_shorter_than_a_window_are_counted() {
        let told = |texts: &[&str]| cut(&corpus(&[("a", texts)]), None).unwrap().short();
        assert_eq!(told(&["abcdef", "abcd"]), None);
        let note = told(&["abcdef", "ab", "abcd"]).unwrap();
        assert!(note.starts_with("1 of 3 documents is shorter than a window of 4 tokens"), "{note}");
    }

    #[test]
    fn units_are_documents_where_there_are_several() {
        let units = |texts: &[&str]| cut(&corpus(&[("a", texts)]), None).unwrap().units();
        assert_eq!(units(&["abcdefgh", "ijkl"]).ok(), Some((vec![0, 0, 1], "documents")));
        assert_eq!(units(&["abcdefgh"]).ok(), Some((vec![0, 1], "windows")));
        assert!(units(&["abcd"]).unwrap_err().message.contains("1 windows of 4 tokens, wanted 2"));
    }

    #[test]
    fn a_domain_without_a_window_is_named() {
        let Err(failure) = cut(&corpus(&[("a", &["abcd"]), ("short", &["ab", "cd"])]), None) else {
            panic!("it has no window")
        };
        assert!(failure.message.contains("`short`") && failure.message.contains("--positions"));
    }

    #[test]
    fn a_limit_below_one_window_is_refused() {
        for limit in [0, 3] {
            let Err(failure) = cut(&corpus(&[("a", &["abcdefgh"])]), Some(limit)) else {
                panic!("{limit} tokens are no window")
            };
            assert!(failure.message.contains(&format!("--tokens {limit}")), "{}", failure.message);
        }
    }

    #[test]
    fn files_are_one_domain_and_folders_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("d")).unwrap();
        for (name, text) in
            [("a.md", "plain"), ("b.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"), ("d/c.txt", "far")]
        {
            std::fs::write(path(name), text).unwrap();
        }
        let found = corpus_of(&[path("a.md"), path("d"), path("b.jsonl")]).unwrap();
        assert_eq!(found.domain_names(), ["text", "d"]);
        assert_eq!(found.domains()[0].documents.len(), 3);
        assert!(corpus_of(&[path("none")]).is_err());
    }
}

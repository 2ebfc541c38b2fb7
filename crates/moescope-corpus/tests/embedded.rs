//! The shipped corpus from text to batches, as a run uses it.

use moescope_base::Seed;
use moescope_corpus::{
    Balance, BatchOrder, Corpus, Split, SplitCorpus, SplitShares, TokenClass, TokenSet, Tokenizer, WindowSet,
};

fn split() -> SplitCorpus {
    let corpus = Corpus::embedded().expect("the shipped files are sound");
    SplitCorpus::new(&corpus, SplitShares::default()).expect("every shipped domain is large enough")
}

#[test]
fn both_scriptures_have_the_same_chapters() {
    let corpus = Corpus::embedded().unwrap();
    let names = |domain: &str| -> Vec<String> {
        let only = corpus.only(&[domain]);
        only.domains()[0].documents.iter().map(|document| document.name.clone()).collect()
    };
    assert_eq!(names("scripture_en"), names("scripture_es"));
}

#[test]
fn the_shipped_text_has_no_stray_characters() {
    for domain in Corpus::embedded().unwrap().domains() {
        for document in &domain.documents {
            let stray = document.text.chars().find(|letter| {
                matches!(letter, '\r' | '\u{feff}' | '\u{a0}')
                    || (letter.is_control() && !"\n\t\u{c}".contains(*letter))
            });
            assert_eq!(stray, None, "{}: {}", domain.name, document.name);
            assert!(!document.text.contains("\n\n\n"), "{}: {}", domain.name, document.name);
        }
    }
}

#[test]
fn every_domain_is_split_and_packed() {
    let split = split();
    let total: usize = (0..split.domains().len()).map(|domain| split.bytes(domain, Split::Train)).sum();
    let all: usize = split.domains().iter().map(moescope_corpus::Domain::bytes).sum();
    let share = total as f64 / all as f64;
    assert!((0.82..0.90).contains(&share), "{share}");
    assert_eq!(split.cut().count(), 0, "documents of the shipped corpus stay whole");
    for domain in 0..split.domains().len() {
        assert!(split.documents(domain, Split::Validation).count() >= 6);
    }

    let tokenizer = Tokenizer::train(split.texts(Split::Train), 1024).unwrap();
    assert_eq!(tokenizer.vocabulary(), 1024);
    let again = Tokenizer::train(split.texts(Split::Train), 1024).unwrap();
    assert_eq!(tokenizer.to_json(), again.to_json());
    let kinds = tokenizer.classes();
    assert!(kinds.iter().filter(|&&kind| kind == TokenClass::WordStart).count() > 100);

    let set = TokenSet::encode(&split, Split::Test, &tokenizer).unwrap();
    let entropy = set.unigram_entropy();
    assert!((4.5..6.9).contains(&entropy), "{entropy}");
    let windows = WindowSet::new(set, 128).unwrap();
    assert_eq!(windows.evaluation(16).unwrap().len(), 16 * windows.domains());
    let order = BatchOrder::new(Seed(1), &windows, windows.domains(), Balance::Equal).unwrap();
    let mut domains: Vec<usize> =
        order.batch(3).into_iter().map(|index| windows.window(index).domain).collect();
    domains.sort_unstable();
    assert_eq!(domains, (0..windows.domains()).collect::<Vec<_>>());
}

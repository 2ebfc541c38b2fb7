//! From the conclusion of a study to its report: words and tables pass through, nothing is computed here.
//!
//! The study does not know what a report looks like, and the report does not know what a study is. This file is the
//! whole of what joins them.

use moescope_analysis::wording::counted;
use moescope_host::{Machine, bytes_in_words};
use moescope_report::{Report, Section};
use moescope_study::{Chapter, Conclusion, Results};

/// The report of a study: lead, five answers, one section for each chapter, and what it takes to repeat it. `command`
/// is what made it, as a person would type it.
///
/// The text contains no date and no duration. It names the machine, so reports of two machines differ in that line
/// though their numbers agree.
pub fn build(results: &Results, conclusion: &Conclusion, command: &str) -> Report {
    Report {
        title: "What goes on inside Mixture-of-Experts models".into(),
        subtitle: format!(
            "A moescope study: {}, {}",
            results.config.name,
            counted(results.config.seeds, "seed", "seeds")
        ),
        lead: conclusion.lead.clone(),
        answers: Some(conclusion.answers.clone()),
        sections: conclusion.chapters.iter().map(section).collect(),
        reproduce: reproduce(results, command),
        notes: notes(),
    }
}

/// A chapter as a section.
fn section(chapter: &Chapter) -> Section {
    Section {
        id: chapter.id.clone(),
        heading: chapter.heading.clone(),
        question: chapter.question,
        prose: chapter.prose.clone(),
        figures: chapter.figures.clone(),
        tables: chapter.tables.clone(),
        method: chapter.method.clone(),
        limits: chapter.limits.clone(),
    }
}

/// What it takes to get the same numbers again: command, program, seeds, hashes of text and tokenizer, and the
/// configuration in full, since a preset may change with the program.
fn reproduce(results: &Results, command: &str) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let seeds: Vec<String> = results.config.seed_list().iter().map(u64::to_string).collect();
    let mut entries = vec![
        pair("Command", command.to_owned()),
        pair("Program", program()),
        pair("Seeds", seeds.join(", ")),
        pair("Domains", results.dataset.domain_names.join(", ")),
        pair("Training tokens", results.dataset.training_tokens.to_string()),
        pair("Hash of the training windows", results.dataset.training_hash.clone()),
        pair("Hash of the validation windows", results.dataset.validation_hash.clone()),
        pair("Hash of the tokenizer", results.dataset.tokenizer_hash.clone()),
        pair("Machine", machine()),
    ];
    let configuration = toml::to_string(&results.config).expect("a study configuration is plain data");
    entries.push(pair("Configuration", configuration));
    entries
}

/// The program, with the commit that it was built from where it was built from a checkout.
fn program() -> String {
    let version = env!("CARGO_PKG_VERSION");
    moescope_study::COMMIT.map_or_else(
        || format!("moescope {version}"),
        |commit| format!("moescope {version}, commit {commit}"),
    )
}

/// The machine. It decides how long a study takes; within one instruction set it does not decide its numbers.
fn machine() -> String {
    let Machine { processor, architecture, cores, memory, system } = Machine::here();
    let memory =
        memory.map_or_else(String::new, |bytes| format!(", {} of memory", bytes_in_words(bytes as f64)));
    format!("{processor}, {cores} cores, {architecture}{memory}, {system}")
}

/// How to read the report, the same for every study.
fn notes() -> Vec<String> {
    vec![
        "Every verdict follows from its claims by a fixed rule; none was written by hand.".into(),
        "A claim's p-value is corrected for the number of claims of its question by Holm's method, primary and secondary claims apart; “not decided” means that this budget \
         did not decide it, not that there is nothing."
            .into(),
        "The correction holds within a question and a kind of test; over the five questions together more is decided wrongly by chance than \
         any one of them admits. All seeds share the tokenizer, the corpus and the validation text, so intervals do not cover another text."
            .into(),
        "The same configuration, program and instruction set give the same answers, bit for bit, for any number of threads."
            .into(),
    ]
}

//! What a page is made of.

use moescope_base::{Answers, Figure, QuestionId, Table};

/// Everything that one page shows, in the order in which it is read.
///
/// A report holds text and tables that others computed; writing it computes no result.
///
/// Texts are plain: no markup is read from them, and each entry of a list is one paragraph or one item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Name of the page.
    pub title: String,
    /// One line below the title.
    pub subtitle: String,
    /// Opening sentences: what was run, how large the noise is, whether the models have learned.
    pub lead: Vec<String>,
    /// The verdicts, shown first; none for a report that answers no question.
    pub answers: Option<Answers>,
    /// Evidence in the order in which it is read.
    pub sections: Vec<Section>,
    /// What a second person needs to get the same numbers: pairs of name and value.
    pub reproduce: Vec<(String, String)>,
    /// Limits of the whole.
    pub notes: Vec<String>,
}

/// One part of a [`Report`]: a question with its evidence, or a finding that belongs to none.
///
/// Empty lists leave out their heading, so `..Section::default()` makes a short section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Identifier within the page, the target of links.
    ///
    /// To be unique within a report; characters other than letters, digits, `-` and `_` become `-` in the page.
    pub id: String,
    /// Heading.
    pub heading: String,
    /// The question that the section serves; its claims are then shown here.
    pub question: Option<QuestionId>,
    /// Paragraphs before the figures.
    pub prose: Vec<String>,
    /// Pictures; each names a table of this or of another section.
    pub figures: Vec<Figure>,
    /// Results.
    pub tables: Vec<Table>,
    /// How it was measured.
    ///
    /// One sentence for each step that a second person would have to do alike.
    pub method: Vec<String>,
    /// What it does not show.
    ///
    /// Shown together with the limits of the answer, each once.
    pub limits: Vec<String>,
}

impl Report {
    /// The table of that name with the section that it stands in, looked for in `section` first and then in the
    /// whole report.
    ///
    /// Sections may have tables of the same name; a figure means the nearest.
    pub(crate) fn table(&self, section: &Section, name: &str) -> Option<(&Section, &Table)> {
        let here = self.sections.iter().find(|other| other.id == section.id);
        let all = here.into_iter().chain(&self.sections);
        all.flat_map(|part| part.tables.iter().map(move |table| (part, table)))
            .find(|(_, table)| table.name() == name)
    }

    /// Names of all tables, for error messages.
    pub(crate) fn table_names(&self) -> Vec<String> {
        self.sections.iter().flat_map(|s| &s.tables).map(|t| t.name().to_owned()).collect()
    }
}

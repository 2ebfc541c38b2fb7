//! Where in the text of a configuration a mistake stands.

use moescope_host::line_and_column;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::StudyError;

/// The error with line and column of the value that it is about. An error about no key, or about one that the text does not
/// have, stays as it is.
pub(super) fn of(text: &str, source: &str, error: StudyError) -> StudyError {
    let StudyError::Config { key, .. } = &error else { return error };
    let Some(start) = start_of(text, key) else { return error };
    let (line, column) = line_and_column(text, start);
    StudyError::Place { file: source.to_owned(), line, column, problem: Box::new(error) }
}

/// Byte at which the value of a key begins, `model.d_model` for `d_model` in the table `model`. The text has been read before,
/// so it is valid TOML.
fn start_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table: &DeTable<'_> = document.get_ref();
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for name in key.split('.') {
        if let Some(outer) = value {
            table = outer.get_ref().as_table()?;
        }
        value = Some(table.get(name)?);
    }
    value.map(|value| value.span().start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, key: &str) -> String {
        of(text, "f.toml", StudyError::out_of_range(key, 1, "2")).to_string()
    }

    #[test]
    fn values_are_found_in_tables_of_either_form() {
        let text = "seeds = 3\n[model]\n\"é\" = 1\nd_ff = 64\n[data]\n";
        assert!(place(text, "seeds").starts_with("f.toml:1:9: "));
        assert!(place(text, "model.d_ff").starts_with("f.toml:4:8: "));
        assert!(place("model = { \"é\" = 1, d_ff = 64 }", "model.d_ff").starts_with("f.toml:1:27: "));
        assert!(place(text, "data").starts_with("f.toml:5:"));
    }

    #[test]
    fn what_is_not_in_the_text_gets_no_place() {
        assert!(place("seeds = 3", "model.d_ff").starts_with("the study's configuration"));
        assert!(place("seeds = 3", "seeds.more").starts_with("the study's configuration"));
    }
}

//! The places in the text at which a neuron is strongest.

use moescope_base::Tokens;
use moescope_trace::TokenTable;

/// Tokens before the strongest that are shown.
const BEFORE: usize = 12;
/// Tokens after it.
const AFTER: usize = 6;

/// What is known about every token of the text, batch after batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Text {
    pub(crate) ids: Vec<u32>,
    pub(crate) documents: Vec<u32>,
    pub(crate) domains: Vec<u16>,
    /// Number of the window.
    windows: Vec<u32>,
}

impl Text {
    /// All batches.
    pub(crate) fn new(batches: &[(Tokens, TokenTable)]) -> Text {
        let mut text = Text::default();
        let mut windows = 0;
        for (tokens, table) in batches {
            text.ids.extend(&table.ids);
            text.documents.extend(&table.documents);
            text.domains.extend(&table.domains);
            text.windows.extend((0..tokens.len()).map(|token| windows + (token / tokens.positions()) as u32));
            windows += tokens.batch() as u32;
        }
        text
    }

    /// The tokens around a place, as far as they are in its window and document.
    pub(crate) fn around(&self, token: usize) -> std::ops::Range<usize> {
        let at = |other: usize| (self.windows[other], self.documents[other]);
        let together = |other: &usize| at(*other) == at(token);
        let before = (token.saturating_sub(BEFORE)..token).rev().take_while(together).count();
        let after = (token + 1..self.ids.len().min(token + 1 + AFTER)).take_while(together).count();
        token - before..token + 1 + after
    }
}

/// Rows at which a neuron is strongest, the strongest first: from different documents, and where there are too few, from different
/// contexts. `tokens[row]` are places in the text; a row where the value is 0 is none.
pub(super) fn strongest(text: &Text, tokens: &[u32], values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|row| values[*row] != 0.0).collect();
    order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(tokens[*a].cmp(&tokens[*b])));
    let place = |row: usize| tokens[row] as usize;
    let document = |row: usize| text.documents[place(row)];
    let mut taken: Vec<usize> = Vec::new();
    for row in &order {
        if taken.len() < count && taken.iter().all(|other| document(*other) != document(*row)) {
            taken.push(*row);
        }
    }
    for row in &order {
        let apart = |other: &usize| !text.around(place(*other)).contains(&place(*row));
        if taken.len() < count && taken.iter().all(apart) {
            taken.push(*row);
        }
    }
    taken.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(tokens[*a].cmp(&tokens[*b])));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two windows of 30 tokens; the first holds two documents, the second goes on with the last of them.
    fn text() -> Text {
        let documents = (0..60).map(|token| u32::from(token >= 20)).collect();
        let windows = (0..60).map(|token| token / 30).collect();
        Text { ids: (0..60).collect(), documents, domains: vec![0; 60], windows }
    }

    #[test]
    fn a_context_ends_with_its_window_and_its_document() {
        let text = text();
        assert_eq!(text.around(15), 3..20);
        assert_eq!(text.around(22), 20..29);
        assert_eq!(text.around(31), 30..38);
        assert_eq!(text.around(59), 47..60);
    }

    #[test]
    fn the_strongest_come_from_different_documents_first() {
        let tokens: Vec<u32> = (0..60).collect();
        let mut values = vec![0.0_f32; 60];
        [(5, 9.0), (6, -8.0), (2, 7.0), (40, -1.0)].iter().for_each(|(at, value)| values[*at] = *value);
        assert_eq!(strongest(&text(), &tokens, &values, 2), [5, 40]);
        // A third one is in no context of the others, and none is.
        assert_eq!(strongest(&text(), &tokens, &values, 3), [5, 40]);
        values[55] = 0.5;
        assert_eq!(strongest(&text(), &tokens, &values, 3), [5, 40, 55]);
        assert!(strongest(&text(), &tokens, &[0.0; 60], 3).is_empty());
    }
}

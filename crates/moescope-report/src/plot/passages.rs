//! Running text with marks, as tables give it.

use super::source::{Source, distinct};
use crate::ReportError;

/// Passages of text.
pub(crate) struct PassagePlot {
    /// What marks pieces, the most frequent first, with how many pieces it marks.
    pub(crate) marks: Vec<(String, usize)>,
    /// In the order of the table.
    pub(crate) passages: Vec<Passage>,
}

/// One passage.
pub(crate) struct Passage {
    pub(crate) name: String,
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of text.
pub(crate) struct Piece {
    /// As it stands in the table; control characters are replaced when it is written.
    pub(crate) text: String,
    /// Place in [`PassagePlot::marks`].
    pub(crate) mark: usize,
    /// Lines for the reader who points at it.
    pub(crate) words: Vec<String>,
}

impl PassagePlot {
    /// Reads four columns.
    pub(crate) fn read(
        source: &Source<'_>,
        passage: &str,
        text: &str,
        mark: &str,
        value: &str,
    ) -> Result<PassagePlot, ReportError> {
        let (names, of) = distinct(&source.labels(Some(passage))?);
        let texts = source.labels(Some(text))?;
        let (kinds, marked) = distinct(&source.names(Some(mark))?);
        let measured = source.measured(value)?;
        let quantity = measured.quantity();
        let mut marks: Vec<(String, usize)> = kinds.into_iter().map(|kind| (kind, 0)).collect();
        marked.iter().for_each(|&mark| marks[mark].1 += 1);
        // Of equals the first; so the legend does not depend on more than the table.
        let mut order: Vec<usize> = (0..marks.len()).collect();
        order.sort_by_key(|&mark| std::cmp::Reverse(marks[mark].1));
        let place =
            |mark: usize| order.iter().position(|&at| at == mark).expect("all marks are in the order");
        let mut passages: Vec<Passage> =
            names.into_iter().map(|name| Passage { name, pieces: Vec::new() }).collect();
        for (row, text) in texts.into_iter().enumerate() {
            let mut words = vec![marks[marked[row]].0.clone()];
            words.extend(measured.reading(row).lines(&quantity));
            passages[of[row]].pieces.push(Piece { text, mark: place(marked[row]), words });
        }
        let marks = order.iter().map(|&mark| marks[mark].clone()).collect();
        Ok(PassagePlot { marks, passages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{Column, Table};

    #[test]
    fn marks_are_ordered_by_how_often_they_stand() {
        let texts = |list: [&str; 4]| list.map(str::to_owned).to_vec();
        let columns = vec![
            Column::key("passage", "p", texts(["x", "x", "x", "y"])),
            Column::key("token", "t", texts([" a", "b", "\n", " c"])),
            Column::integer_key("expert", "", "e", vec![7, 3, 3, 3]),
            Column::estimate("weight", "share", "w", vec![0.5, 0.25, 1.0, 1.0]),
        ];
        let table = Table::new("t", "", "", columns).unwrap();
        let source = Source { figure: "f", table: &table };
        let plot = PassagePlot::read(&source, "passage", "token", "expert", "weight").unwrap();
        assert_eq!(plot.marks, [("expert 3".to_owned(), 3), ("expert 7".to_owned(), 1)]);
        let marks: Vec<usize> = plot.passages[0].pieces.iter().map(|piece| piece.mark).collect();
        assert_eq!((plot.passages.len(), marks), (2, vec![1, 0, 0]));
        assert_eq!(plot.passages[0].pieces[2].text, "↵");
    }
}

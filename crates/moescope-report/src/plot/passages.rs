//! Running text with marks, as tables give it.

use moescope_base::ColumnData;

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
    /// Place in [`PassagePlot::marks`]; none is set as plain text.
    pub(crate) mark: Option<usize>,
    /// Lines for the reader who points at it.
    pub(crate) words: Vec<String>,
}

impl PassagePlot {
    /// Reads four columns. A mark that is an empty text marks nothing.
    pub(crate) fn read(
        source: &Source<'_>,
        passage: &str,
        text: &str,
        mark: &str,
        value: &str,
    ) -> Result<PassagePlot, ReportError> {
        let (names, of) = distinct(&source.labels(Some(passage))?);
        let texts = source.labels(Some(text))?;
        let marker = source.column(mark)?;
        let (kinds, marked) = distinct(&source.names(Some(mark))?);
        let blank = |row: usize| matches!(&marker.data, ColumnData::Text(marks) if marks[row].is_empty());
        let blank: Vec<bool> = (0..marked.len()).map(blank).collect();
        let measured = source.measured(value)?;
        let quantity = measured.quantity();
        let mut marks: Vec<(String, usize)> = kinds.into_iter().map(|kind| (kind, 0)).collect();
        marked.iter().zip(&blank).filter(|(_, blank)| !**blank).for_each(|(&mark, _)| marks[mark].1 += 1);
        // Of equals the first; so the legend does not depend on more than the table.
        let mut order: Vec<usize> = (0..marks.len()).filter(|&mark| marks[mark].1 > 0).collect();
        order.sort_by_key(|&mark| std::cmp::Reverse(marks[mark].1));
        let place = |mark: usize| order.iter().position(|&at| at == mark);
        let mut passages: Vec<Passage> =
            names.into_iter().map(|name| Passage { name, pieces: Vec::new() }).collect();
        for (row, text) in texts.into_iter().enumerate() {
            let mark = if blank[row] { None } else { place(marked[row]) };
            let mut words = vec![marks[marked[row]].0.clone()];
            words.extend(measured.reading(row).lines(&quantity));
            passages[of[row]].pieces.push(Piece { text, mark, words });
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
        let marks: Vec<Option<usize>> = plot.passages[0].pieces.iter().map(|piece| piece.mark).collect();
        assert_eq!((plot.passages.len(), marks), (2, vec![Some(1), Some(0), Some(0)]));
        assert_eq!(plot.passages[0].pieces[2].text, "↵");
    }

    #[test]
    fn an_empty_mark_marks_nothing() {
        let texts = |list: [&str; 3]| list.map(str::to_owned).to_vec();
        let columns = vec![
            Column::key("passage", "p", texts(["x", "x", "x"])),
            Column::key("token", "t", texts([" a", "b", " c"])),
            Column::key("mark", "m", texts(["", "strongest", ""])),
            Column::estimate("value", "", "v", vec![f64::NAN, 2.0, f64::NAN]),
        ];
        let table = Table::new("t", "", "", columns).unwrap();
        let source = Source { figure: "f", table: &table };
        let plot = PassagePlot::read(&source, "passage", "token", "mark", "value").unwrap();
        assert_eq!(plot.marks, [("strongest".to_owned(), 1)]);
        let marks: Vec<Option<usize>> = plot.passages[0].pieces.iter().map(|piece| piece.mark).collect();
        assert_eq!(marks, [None, Some(0), None]);
    }
}

//! Text with marks: set as text, so that it breaks, can be searched and copied.

use crate::html::Text;
use crate::number;
use crate::palette::series_of;
use crate::plot::PassagePlot;

/// Marks that the legend names.
const NAMED: usize = 12;

/// A legend and the passages.
///
/// Colour never speaks alone: where the mark changes, its number or name stands small behind the first piece. Where few pieces are marked, the
/// others are plain text, and no legend tells how few.
pub(super) fn passages(plot: &PassagePlot) -> String {
    let mut html = format!("<div class=\"passages\">\n{}", legend(plot));
    for passage in &plot.passages {
        html.push_str(&format!("<p><b>{}</b> ", Text(&passage.name)));
        let mut before = None;
        for piece in &passage.pieces {
            let words = piece.words.join("\n");
            let (text, words) = (Text(&piece.text), Text(&words));
            match piece.mark {
                None => html.push_str(&text.to_string()),
                Some(mark) => {
                    let style = color(mark);
                    html.push_str(&format!(
                        "<span class=\"piece\" style=\"color:{style}\" title=\"{words}\"><span>{text}</span>"
                    ));
                    if before != Some(mark) {
                        html.push_str(&format!("<sub>{}</sub>", Text(short(&plot.marks[mark].0))));
                    }
                    html.push_str("</span>");
                }
            }
            before = piece.mark;
        }
        html.push_str("</p>\n");
    }
    html.push_str("</div>\n");
    html
}

/// The most frequent marks with the share of the pieces that they mark.
fn legend(plot: &PassagePlot) -> String {
    if plot.passages.iter().flat_map(|passage| &passage.pieces).any(|piece| piece.mark.is_none()) {
        return String::new();
    }
    let all: usize = plot.marks.iter().map(|(_, count)| count).sum();
    let share = |count: usize| number::significant(100.0 * count as f64 / all.max(1) as f64, 2);
    let named = plot.marks.iter().enumerate().take(NAMED).map(|(mark, (name, count))| {
        let style = color(mark);
        format!(
            "<li><span class=\"piece\" style=\"color:{style}\"><span>{}</span></span> {} %</li>",
            Text(name),
            share(*count)
        )
    });
    let items: String = named.collect();
    let rest: usize = plot.marks.iter().skip(NAMED).map(|(_, count)| count).sum();
    let others = match plot.marks.len().saturating_sub(NAMED) {
        0 => String::new(),
        others => format!("<li>{others} others {} %</li>", share(rest)),
    };
    format!("<ul>{items}{others}</ul>\n")
}

/// The last word of a mark, mostly its number.
fn short(mark: &str) -> &str {
    mark.rsplit(' ').next().unwrap_or(mark)
}

fn color(mark: usize) -> String {
    format!("var(--series-{})", series_of(Some(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Passage, Piece};

    #[test]
    fn hostile_text_stays_text_and_the_number_stands_where_the_mark_changes() {
        let piece =
            |text: &str, mark| Piece { text: text.into(), mark: Some(mark), words: vec!["a\"b".into()] };
        let pieces = vec![piece("<b>", 0), piece(" x", 0), piece("y", 1)];
        let marks = vec![("expert 4".to_owned(), 2), ("expert 9".to_owned(), 1)];
        let plot = PassagePlot { marks, passages: vec![Passage { name: "<p>".into(), pieces }] };
        let html = passages(&plot);
        assert!(
            html.contains("&lt;b&gt;") && !html.contains("<p><b><p>") && html.contains("title=\"a&quot;b\"")
        );
        assert_eq!(html.matches("<sub>4</sub>").count() + html.matches("<sub>9</sub>").count(), 2);
        assert!(html.contains("67 %") && html.contains("33 %"), "{html}");
    }

    #[test]
    fn what_is_not_marked_is_plain_and_safe() {
        let piece = |text: &str, mark| Piece { text: text.into(), mark, words: vec!["2.5".into()] };
        let pieces = vec![piece("<i>", None), piece(" fire", Some(0)), piece(" and", None)];
        let passages_of = vec![Passage { name: "n".into(), pieces }];
        let html = passages(&PassagePlot { marks: vec![("strongest".to_owned(), 1)], passages: passages_of });
        assert!(html.contains("&lt;i&gt;<span class=\"piece\""), "{html}");
        assert!(html.contains("<span> fire</span><sub>strongest</sub></span> and</p>"), "{html}");
        assert!(!html.contains("<ul>"), "{html}");
    }
}

//! Figures: the finding as heading, the picture, and how to read it.

use moescope_base::Figure;

use super::{PageData, anchor, passages, table};
use crate::charts::Chart;
use crate::html::{Text, identifier};
use crate::plot::Plot;
use crate::{Report, ReportError, Section, static_svg};

/// A figure: the finding, the still picture, room for the live chart, and how to read it.
///
/// The still picture is what stands in the page; the script puts the live chart in its place, so that paper and
/// readers without scripts lose nothing but the words on hover. `place` is the anchor of the section, which keeps two
/// figures of one name apart.
///
/// # Errors
/// If the figure names a table or column that the report does not have, or text where it needs numbers.
pub(super) fn figure(
    report: &Report,
    section: &Section,
    place: &str,
    figure: &Figure,
    data: &mut PageData,
) -> Result<String, ReportError> {
    let (home, content) = report.table(section, &figure.table).ok_or_else(|| ReportError::MissingTable {
        figure: figure.id.clone(),
        table: figure.table.clone(),
        known: report.table_names(),
    })?;
    let plot = Plot::read(figure, content)?;
    let id = format!("{place}-figure-{}", identifier(&figure.id));
    let picture = static_svg::picture(&plot, &figure.title);
    let height = Chart::of(&plot).map(|chart| {
        data.charts.insert(id.clone(), chart.option);
        chart.height
    });
    let drawing = match (&plot, picture, height) {
        (Plot::Passages(plot), ..) if !plot.passages.is_empty() => passages::passages(plot),
        (_, Some(picture), Some(height)) => format!(
            "<div class=\"still\">{picture}</div>\n<div class=\"chart\" style=\"height:{height}px\" hidden></div>\n"
        ),
        (_, Some(picture), None) => format!("<div class=\"still\">{picture}</div>\n"),
        _ => "<p class=\"none\">Nothing to draw: the table holds no number for this figure.</p>\n".to_owned(),
    };
    let key = plot.key();
    // A sign of multiplication or a percent sign at the start of a line would stand alone.
    let title = figure.title.replace(" ×", "\u{a0}×").replace(" %", "\u{a0}%");
    let (title, caption, source) = (Text(&title), Text(&figure.caption), Text(&figure.table));
    let target = table::anchor(&anchor(home), content);
    Ok(format!(
        "<figure id=\"{id}\">\n<h3>{title}</h3>\n{drawing}\
         <figcaption>{caption} {key} <span class=\"source\">Data: table <a href=\"#{target}\"><code>{source}</code></a>.</span></figcaption>\n</figure>\n"
    ))
}

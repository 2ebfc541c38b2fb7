//! What stands around the evidence: head, contents, limits of the whole, and the scripts.

use serde_json::json;

use super::{PageData, Part};
use crate::html::{Text, list, paragraphs};
use crate::{Report, palette, payload};

/// Style of the page, for screen and paper, light and dark.
const STYLE: &str = include_str!("../../assets/page.css");
/// The script of the page: unpacks the data, draws the charts, sorts and downloads the tables.
const SCRIPT: &str = include_str!("../../assets/page.js");
/// The chart library, a custom build with what the figures need; left out of a page without charts.
const ENGINE: &str = include_str!("../../assets/echarts.custom.min.js");

/// Nothing may be loaded, sent or framed; only what stands in the file runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// The whole document around the given body.
pub(super) fn page(report: &Report, parts: &[Part<'_>], body: &str, data: &PageData) -> String {
    let title = Text(&report.title);
    let colors = palette::style();
    let (header, contents) = (header(report), contents(report, parts));
    let (end, scripts) = (end(report), scripts(data));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"moescope {version}\">\n\
         <title>{title}</title>\n<style>\n{colors}{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n{header}{contents}\
         <main id=\"main\">\n{body}{end}</main>\n{scripts}</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Title, subtitle and opening sentences.
fn header(report: &Report) -> String {
    let (title, subtitle) = (Text(&report.title), Text(&report.subtitle));
    let lead = paragraphs(&report.lead);
    format!(
        "<header class=\"top\">\n<h1>{title}</h1>\n<p class=\"subtitle\">{subtitle}</p>\n\
         <div class=\"lead\">{lead}</div>\n</header>\n"
    )
}

/// The table of contents: a column beside the text, a strip above it on a narrow page.
fn contents(report: &Report, parts: &[Part<'_>]) -> String {
    let mut links = Vec::new();
    if report.answers.is_some() {
        links.push(link("answers", "Answers", ""));
    }
    for part in parts {
        let heading = &part.section.heading;
        let short = part.answer.map_or(String::new(), |a| a.id.to_string());
        // "Q2 evidence" beside "Q2" would say it twice.
        let long = heading.strip_prefix(&short).unwrap_or(heading).trim_start_matches([' ', '·', ':', '—']);
        links.push(link(&part.anchor(), &short, long));
    }
    if !report.notes.is_empty() {
        links.push(link("limits", "Limits", ""));
    }
    if !report.reproduce.is_empty() {
        links.push(link("reproduce", "Reproduce", ""));
    }
    format!("<nav class=\"contents\" aria-label=\"Contents\">\n<ol>\n{}</ol>\n</nav>\n", links.concat())
}

/// One entry of the contents; a narrow page shows `short` alone where there is one.
fn link(anchor: &str, short: &str, long: &str) -> String {
    let (short_text, long_text) = (Text(short), Text(long));
    let short_text = if short.is_empty() { String::new() } else { format!("<b>{short_text}</b> ") };
    format!("<li><a href=\"#{anchor}\">{short_text}<span>{long_text}</span></a></li>\n")
}

/// What stands after the evidence: limits of the whole, and how to get the same numbers.
fn end(report: &Report) -> String {
    let mut text = String::new();
    if !report.notes.is_empty() {
        let notes = list("What this report as a whole does not show", "limits", &report.notes);
        text.push_str(&format!("<section id=\"limits\">\n<h2>Limits</h2>\n{notes}</section>\n"));
    }
    if !report.reproduce.is_empty() {
        let row = |(name, value): &(String, String)| {
            format!("<div><dt>{}</dt><dd>{}</dd></div>\n", Text(name), Text(value))
        };
        let rows: String = report.reproduce.iter().map(row).collect();
        text.push_str(&format!(
            "<section id=\"reproduce\">\n<h2>Reproduce</h2>\n<dl class=\"facts\">\n{rows}</dl>\n</section>\n"
        ));
    }
    text
}

/// The data and the chart library, compressed, and the script that brings the page to life.
fn scripts(data: &PageData) -> String {
    let packed = payload::packed(&json!({"charts": data.charts, "grids": data.grids}).to_string());
    let engine = match data.charts.is_empty() {
        true => String::new(),
        false => payload::packed(ENGINE),
    };
    format!(
        "<script type=\"text/plain\" id=\"page-data\">{packed}</script>\n\
         <script type=\"text/plain\" id=\"page-engine\">{engine}</script>\n<script>\n{SCRIPT}</script>\n"
    )
}

//! What holds for every page, read from the file itself.

mod demo;

use moescope_base::{Figure, FigureKind};
use moescope_report::{Report, ReportError, Section, write_html};

fn written(report: &Report) -> String {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = folder.path().join("report.html");
    write_html(report, &path).expect("the report is sound");
    std::fs::read_to_string(path).expect("the page was just written")
}

#[test]
fn the_page_names_no_other_resource() {
    let page = written(&demo::report());
    for load in ["src=\"", "srcset=", "<link", "<iframe", "<object", "@import", "url(", "http://", "https://"]
    {
        assert!(!page.contains(load), "the page holds `{load}`");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn markup_from_tables_is_escaped() {
    let page = written(&demo::report());
    assert_eq!(page.matches("<script").count(), 3, "two blocks of data and one script");
    assert!(page.contains("&lt;script&gt;document.title = &#39;broken&#39;&lt;/script&gt;"));
    assert!(!page.contains("<img"));
}

#[test]
fn the_page_is_small() {
    let bytes = written(&demo::report()).len();
    assert!(bytes < 1_200_000, "{bytes} bytes");
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(written(&demo::report()), written(&demo::report()));
}

#[test]
fn identifiers_are_unique_and_links_have_targets() {
    let page = written(&demo::report());
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len());
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(distinct.contains(target), "nothing has the id `{target}`");
    }
}

#[test]
fn a_question_without_a_section_still_shows_its_claims() {
    let mut report = demo::report();
    report.sections.clear();
    let page = written(&report);
    assert!(page.contains("Q2 evidence"));
    assert!(page.contains("Frozen random routing keeps half of the gain"));
}

#[test]
fn an_empty_report_is_a_page() {
    let page = written(&Report::default());
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.len() < 60_000, "no chart, no chart library");
}

#[test]
fn a_figure_of_a_missing_table_or_column_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    let mut report = demo::report();
    let kind = FigureKind::Bars { x: "domain".into(), y: "profit".into(), series: None };
    let figure = |table: &str| Figure {
        id: "f".into(),
        title: String::new(),
        caption: String::new(),
        table: table.into(),
        kind: kind.clone(),
    };
    report.sections.push(Section { figures: vec![figure("nowhere")], ..Section::default() });
    assert!(matches!(write_html(&report, &path), Err(ReportError::MissingTable { .. })));
    report.sections.last_mut().unwrap().figures = vec![figure("gain")];
    let error = write_html(&report, &path).unwrap_err();
    assert!(matches!(error, ReportError::MissingColumn { .. }));
    assert!(error.to_string().contains("`profit`"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

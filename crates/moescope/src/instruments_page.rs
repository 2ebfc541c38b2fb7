//! The case of instruments as a page of Markdown: the generated half of `docs/instruments.md`.

use moescope_analysis::instrument::About;

/// One row for each instrument, from what the instrument says of itself.
pub fn instruments_page(instruments: &[About]) -> String {
    let mut page = String::from(
        "| name | looks at | question | null | does not show | source | forward passes |\n|---|---|---|---|---|---|---|\n",
    );
    for about in instruments {
        let needs = if about.routed { ", routed models alone" } else { "" };
        let cells = [
            format!("`{}`", about.name),
            format!("{}{needs}", about.group.name()),
            about.question.to_owned(),
            about.null.to_owned(),
            about.does_not_show.to_owned(),
            about.source.to_owned(),
            about.passes.to_owned(),
        ];
        // A bar inside a cell would end it.
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    page
}

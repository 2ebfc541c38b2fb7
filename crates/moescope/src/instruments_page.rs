//! The case of instruments as a page of Markdown: the generated half of `docs/instruments.md`.

use moescope_analysis::instrument::{About, Number};

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
        page.push_str(&row(cells));
    }
    page
}

/// One row for each table that an instrument gives, from what the instrument says of itself.
pub fn tables_page(instruments: &[About]) -> String {
    let mut page =
        String::from("| instrument | table | a row is | results (unit, range) |\n|---|---|---|---|\n");
    for about in instruments {
        for gives in about.gives {
            let names =
                |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<String>>();
            let rows = if gives.rows.is_empty() { "all".to_owned() } else { names(gives.rows).join(", ") };
            let numbers: Vec<String> = gives.numbers.iter().map(number).collect();
            page.push_str(&row([
                format!("`{}`", about.name),
                format!("`{}`", gives.table),
                rows,
                numbers.join(", "),
            ]));
        }
    }
    page
}

/// A result with its column as code.
fn number(number: &Number) -> String {
    let said = number.to_string();
    said.replacen(number.column, &format!("`{}`", number.column), 1)
}

fn row<const CELLS: usize>(cells: [String; CELLS]) -> String {
    // A bar inside a cell would end it.
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

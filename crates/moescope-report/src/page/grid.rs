//! Tables as the page shows them, whatever they hold.

use serde_json::{Value, json};

use super::PageData;
use crate::html::Text;

/// Up to this many rows a table is shown whole.
const WHOLE: usize = 16;

/// Rows of a longer table that stand in the page; the scripts show the others on demand.
const EXCERPT: usize = 10;

/// From this many columns on a table is set closer.
const WIDE: usize = 6;

/// A table as the page shows it: sortable, and with the whole data for download.
///
/// What is read (`rows`) and what is kept (`csv`) are apart: a cell is rounded, a download never is.
pub(super) struct Grid {
    /// Name of the downloaded file without its ending.
    pub(super) file: String,
    /// Name above the table, also for readers who hear the page.
    pub(super) caption: String,
    /// One heading for each shown column.
    pub(super) heads: Vec<Head>,
    /// Cells as they are read, `[row, shown column]`, in the order of the table.
    pub(super) rows: Vec<Vec<Cell>>,
    /// Columns with full precision.
    pub(super) csv: Vec<(String, Value)>,
    /// For each shown column, the column of `csv` that it is sorted by.
    pub(super) keys: Vec<usize>,
}

/// A heading.
///
/// `detail` is the quieter text behind the label: unit, and whether an interval follows. A numeric column stands to
/// the right and sorts by number.
pub(super) struct Head {
    label: String,
    detail: String,
    numeric: bool,
}

/// A text with a quieter one below or behind it.
///
/// An estimate and its interval, mostly: together they are one result, so they share a cell.
pub(super) struct Cell {
    main: String,
    aside: String,
}

impl Head {
    pub(super) fn new(label: &str, detail: &str, numeric: bool) -> Head {
        Head { label: label.to_owned(), detail: detail.to_owned(), numeric }
    }

    fn html(&self) -> String {
        let (label, detail) = (Text(&self.label), Text(&self.detail));
        let class = if self.numeric { " class=\"number\"" } else { "" };
        let detail = if self.detail.is_empty() { String::new() } else { format!(" <small>{detail}</small>") };
        format!("<th scope=\"col\"{class}><button type=\"button\">{label}{detail}</button></th>")
    }
}

impl Cell {
    pub(super) fn new(main: String, aside: String) -> Cell {
        Cell { main, aside }
    }

    fn html(&self, numeric: bool) -> String {
        let class = if numeric { " class=\"number\"" } else { "" };
        let aside = match self.aside.is_empty() {
            true => String::new(),
            false => format!(" <span class=\"aside\">{}</span>", Text(&self.aside)),
        };
        format!("<td{class}>{}{aside}</td>", Text(&self.main))
    }
}

impl Grid {
    /// The table, and into `data` what sorting and downloading need.
    pub(super) fn html(&self, id: &str, data: &mut PageData) -> String {
        data.grids.insert(id.to_owned(), self.content());
        let caption = Text(&self.caption);
        let heads: String = self.heads.iter().map(Head::html).collect();
        let rows: String = self.rows.iter().take(self.shown()).map(|row| self.row_html(row)).collect();
        let rest = self.rest();
        let wide = if self.heads.len() >= WIDE { " wide" } else { "" };
        format!(
            "<div class=\"grid{wide}\" id=\"{id}\">\n<h3 class=\"caption\" id=\"{id}-name\">{caption}</h3>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"{id}-name\">\n\
             <table aria-labelledby=\"{id}-name\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n\
             </div>\n<p class=\"tools\"><span class=\"rest\">{rest}</span></p>\n</div>\n"
        )
    }

    /// One row; a cell is aligned as its column is.
    fn row_html(&self, row: &[Cell]) -> String {
        let cells = row.iter().zip(&self.heads).map(|(cell, head)| cell.html(head.numeric));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    }

    /// Rows that stand in the page before a script adds more.
    fn shown(&self) -> usize {
        if self.rows.len() <= WHOLE { self.rows.len() } else { EXCERPT }
    }

    /// What the reader should know about rows that are not there; nothing when all are.
    fn rest(&self) -> String {
        match self.rows.len() {
            0 => "The table has no rows.".to_owned(),
            rows if rows > WHOLE => {
                format!("{EXCERPT} of {} rows shown.", crate::number::integer(rows as i64))
            }
            _ => String::new(),
        }
    }

    /// All that the script needs: the names and values of `csv`, and every row as `[main]` or `[main, aside]`.
    fn content(&self) -> Value {
        let cell = |cell: &Cell| match cell.aside.is_empty() {
            true => json!([cell.main]),
            false => json!([cell.main, cell.aside]),
        };
        let row = |row: &Vec<Cell>| row.iter().map(cell).collect::<Value>();
        json!({
            "file": self.file,
            "names": self.csv.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "columns": self.csv.iter().map(|(_, values)| values).collect::<Vec<_>>(),
            "keys": self.keys,
            "numeric": self.heads.iter().map(|head| head.numeric).collect::<Vec<_>>(),
            "rows": self.rows.iter().map(row).collect::<Value>(),
            "shown": self.shown(),
        })
    }
}

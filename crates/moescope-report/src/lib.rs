//! Tables into documents: one HTML file that needs nothing else, Parquet, and JSON.
//!
//! A study ends as a [`Report`]: verdicts, sections with figures and tables, and what is needed to get the same
//! numbers again. [`write_html`] makes a page of it that opens from a disk without a network, on a phone and on
//! paper, in light and in dark; [`write_parquet`] and [`write_answers`] make files for machines.
//!
//! ```
//! use moescope_base::{Column, Figure, FigureKind, Table};
//! use moescope_report::{Report, Section, write_html, write_parquet};
//!
//! let [low, high] = Column::interval("loss", "nats", "95 % interval", vec![3.1, 2.9], vec![3.3, 3.0]);
//! let table = Table::new("loss", "Loss by arm", "Mean over seeds, t interval", vec![
//!     Column::key("arm", "architecture", vec!["dense".into(), "moe".into()]),
//!     Column::estimate("loss", "nats", "validation loss", vec![3.2, 2.95]),
//!     low,
//!     high,
//! ])?;
//! let figure = Figure {
//!     id: "loss".into(),
//!     title: "The MoE has the lower loss".into(),
//!     caption: "Whiskers are 95 % intervals.".into(),
//!     table: "loss".into(),
//!     kind: FigureKind::Forest { label: "arm".into(), estimate: "loss".into(), reference: None },
//! };
//! let folder = tempfile::tempdir()?;
//! write_parquet(&table, &folder.path().join("loss.parquet"))?;
//! let section = Section {
//!     id: "loss".into(),
//!     heading: "Loss".into(),
//!     figures: vec![figure],
//!     tables: vec![table],
//!     ..Section::default()
//! };
//! let report = Report { title: "Example".into(), sections: vec![section], ..Report::default() };
//! write_html(&report, &folder.path().join("report.html"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Why this way: a result is read years after it was made, by people without the tool. So the page holds its own
//! copy of the chart library (a custom build of Apache ECharts, see `assets/build`), every number that it draws, and
//! for readers without scripts a still picture and a plain table. A strict content policy forbids the page every
//! request. The charts are described as data, and texts reach them as text, since labels come from corpora.

mod answers_json;
mod charts;
mod error;
mod html;
mod number;
mod page;
mod palette;
mod parquet_table;
mod payload;
mod plot;
mod report;
mod static_svg;
mod whole_file;

pub use answers_json::write_answers;
pub use error::ReportError;
pub use page::write_html;
pub use parquet_table::write_parquet;
pub use report::{Report, Section};

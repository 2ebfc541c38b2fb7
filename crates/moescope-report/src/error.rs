//! What can keep a document from being written.

use std::io;
use std::path::PathBuf;

/// Why a report, a table or the answers could not be written.
///
/// Every error is met before the file takes its name: a document is there whole or not at all. A message names what
/// was found and what would do; `source` keeps the words of the library below.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system refused.
    #[error("cannot write `{}`; check that its folder exists, is writable and has room", path.display())]
    Write {
        /// File that was wanted.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path names no file.
    #[error("`{}` names no file; give a path that ends in a file name", path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// Parquet refused the table.
    #[error("table `{table}` does not fit into Parquet; check its column names")]
    Parquet {
        /// Table.
        table: String,
        /// What the library said.
        source: parquet::errors::ParquetError,
    },
    /// A value that JSON cannot hold.
    #[error("cannot express {what} as JSON")]
    Json {
        /// What was to be written.
        what: String,
        /// What the library said.
        source: serde_json::Error,
    },
    /// A figure of a table that the report does not have.
    #[error(
        "figure `{figure}` draws table `{table}`, which the report does not have; its tables are: {}",
        known.join(", ")
    )]
    MissingTable {
        /// Figure.
        figure: String,
        /// Table that it names.
        table: String,
        /// Tables of the report.
        known: Vec<String>,
    },
    /// A figure of a column that its table does not have.
    #[error(
        "figure `{figure}` draws column `{column}` of table `{table}`, whose columns are: {}",
        known.join(", ")
    )]
    MissingColumn {
        /// Figure.
        figure: String,
        /// Table.
        table: String,
        /// Column that it names.
        column: String,
        /// Columns of the table.
        known: Vec<String>,
    },
    /// A figure that needs numbers where the table holds text.
    #[error("figure `{figure}` needs numbers in column `{column}` of table `{table}`, which holds text")]
    NotNumeric {
        /// Figure.
        figure: String,
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
}

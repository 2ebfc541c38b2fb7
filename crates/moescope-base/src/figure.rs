use serde::{Deserialize, Serialize};

/// A picture of a table, described so that any renderer can draw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Identifier within the report.
    pub id: String,
    /// The finding, computed from the data, as a sentence.
    pub title: String,
    /// How to read it, and what it does not show.
    pub caption: String,
    /// Name of the table that holds the data.
    pub table: String,
    /// What to draw.
    pub kind: FigureKind,
}

/// What to draw; every field names a column of the figure's table.
///
/// Intervals, nulls and units are found through the roles of the columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FigureKind {
    /// Estimates with intervals, one row each, beside a reference line.
    Forest {
        /// Names the rows.
        label: String,
        /// Estimates.
        estimate: String,
        /// Where the reference line stands, in the unit of the estimates.
        reference: Option<f64>,
    },
    /// Estimates along a numeric axis, one line with an interval band for each series.
    Lines {
        /// Horizontal axis.
        x: String,
        /// Estimates.
        y: String,
        /// Which line a row belongs to.
        series: Option<String>,
        /// Horizontal axis in powers of two.
        log2_x: bool,
    },
    /// Estimates by category with intervals, grouped by series.
    Bars {
        /// Category.
        x: String,
        /// Estimates.
        y: String,
        /// Which group a row belongs to.
        series: Option<String>,
    },
    /// A matrix of colours.
    Heatmap {
        /// Columns of the matrix.
        x: String,
        /// Rows of the matrix.
        y: String,
        /// Colour.
        value: String,
        /// Value at which a diverging scale has its neutral colour; none for a sequential scale.
        center: Option<f64>,
    },
    /// Points in the plane.
    Scatter {
        /// Horizontal axis.
        x: String,
        /// Vertical axis.
        y: String,
        /// Which colour a point has.
        series: Option<String>,
        /// Whether to draw the line on which both are equal.
        diagonal: bool,
    },
    /// Streams between the entries of neighbouring stages, each as wide as its value: an alluvial diagram.
    Flows {
        /// Stage that a stream leaves; stages stand in the order of the rows.
        stage: String,
        /// Entry of that stage.
        from: String,
        /// Stage that it reaches.
        next_stage: String,
        /// Entry of the next stage.
        to: String,
        /// Width, 0 or more.
        value: String,
    },
    /// Running text whose pieces are coloured by what marks them.
    Passages {
        /// Which passage a row belongs to; rows of one follow each other.
        passage: String,
        /// Piece of text.
        text: String,
        /// What marks it; an empty text leaves the piece unmarked.
        mark: String,
        /// Number that is told of each piece.
        value: String,
    },
}

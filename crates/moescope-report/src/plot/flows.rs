//! Streams between stages, as tables give them.

use super::source::{Source, distinct};
use super::{Quantity, Reading};
use crate::ReportError;

/// An alluvial diagram.
pub(crate) struct FlowPlot {
    /// From the left.
    pub(crate) stages: Vec<Stage>,
    /// In the order of the table.
    pub(crate) streams: Vec<Stream>,
    /// What the widths are.
    pub(crate) quantity: Quantity,
}

/// What stands in one column.
pub(crate) struct Stage {
    /// Entry of the column of stages.
    pub(crate) name: String,
    /// From the top.
    pub(crate) nodes: Vec<Node>,
}

/// An entry of a stage.
pub(crate) struct Node {
    pub(crate) name: String,
    /// The larger of what reaches and what leaves it.
    pub(crate) size: f64,
}

/// What flows from a node of one stage to a node of the next.
pub(crate) struct Stream {
    /// Stage that it leaves.
    pub(crate) stage: usize,
    /// Node that it leaves.
    pub(crate) from: usize,
    /// Node of the next stage.
    pub(crate) to: usize,
    /// Width, above 0.
    pub(crate) size: f64,
    /// Lines for the reader who points at it.
    pub(crate) words: Vec<String>,
}

/// Columns of a table of streams.
pub(crate) struct FlowColumns<'a> {
    pub(crate) stage: &'a str,
    pub(crate) from: &'a str,
    pub(crate) next_stage: &'a str,
    pub(crate) to: &'a str,
    pub(crate) value: &'a str,
}

impl FlowPlot {
    /// Reads the streams that have a width; nodes stand in the order in which rows leave them, in the last stage in that in which
    /// rows reach them.
    pub(crate) fn read(source: &Source<'_>, columns: FlowColumns<'_>) -> Result<FlowPlot, ReportError> {
        let measured = source.measured(columns.value)?;
        let quantity = measured.quantity();
        let readings: Vec<Reading> = (0..source.table.rows()).map(|row| measured.reading(row)).collect();
        let [stage, next] = [columns.stage, columns.next_stage].map(|name| source.labels(Some(name)));
        let [from, to] = [columns.from, columns.to].map(|name| source.names(Some(name)));
        let (stage, next, from, to) = (stage?, next?, from?, to?);
        let (names, _) = distinct(&stage.iter().chain(&next).cloned().collect::<Vec<_>>());
        let place = |name: &String| names.iter().position(|known| known == name).expect("listed just now");
        let mut stages: Vec<Stage> =
            names.iter().map(|name| Stage { name: name.clone(), nodes: Vec::new() }).collect();
        let flows = |row: &usize| readings[*row].value > 0.0 && readings[*row].value.is_finite();
        let rows: Vec<usize> = (0..readings.len()).filter(flows).collect();
        for &row in &rows {
            node_of(&mut stages[place(&stage[row])], &from[row]);
        }
        let mut streams = Vec::new();
        for &row in &rows {
            let (here, there) = (place(&stage[row]), place(&next[row]));
            let mut words = vec![format!("{} → {}", from[row], to[row])];
            words.extend(readings[row].lines(&quantity));
            streams.push(Stream {
                stage: here,
                from: node_of(&mut stages[here], &from[row]),
                to: node_of(&mut stages[there], &to[row]),
                size: readings[row].value,
                words,
            });
        }
        measure(&mut stages, &streams);
        Ok(FlowPlot { stages, streams, quantity })
    }
}

/// Place of an entry of a stage, made if it is new.
fn node_of(stage: &mut Stage, name: &str) -> usize {
    stage.nodes.iter().position(|node| node.name == name).unwrap_or_else(|| {
        stage.nodes.push(Node { name: name.to_owned(), size: 0.0 });
        stage.nodes.len() - 1
    })
}

/// Gives every node its size.
fn measure(stages: &mut [Stage], streams: &[Stream]) {
    for (index, stage) in stages.iter_mut().enumerate() {
        for (place, node) in stage.nodes.iter_mut().enumerate() {
            let leaves = streams.iter().filter(|s| (s.stage, s.from) == (index, place)).map(|s| s.size);
            let reaches = streams.iter().filter(|s| (s.stage + 1, s.to) == (index, place)).map(|s| s.size);
            node.size = leaves.sum::<f64>().max(reaches.sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{Column, Table};

    #[test]
    fn nodes_have_the_order_of_the_rows_and_the_size_of_their_streams() {
        let texts = |list: [&str; 4]| list.map(str::to_owned).to_vec();
        let columns = vec![
            Column::integer_key("layer", "", "l", vec![0, 0, 0, 2]),
            Column::key("expert", "e", texts(["b", "a", "a", "d"])),
            Column::integer_key("next_layer", "", "n", vec![2, 2, 2, 5]),
            Column::key("next", "n", texts(["d", "c", "d", "e"])),
            Column::estimate("share", "share", "s", vec![0.5, 0.25, f64::NAN, 0.75]),
        ];
        let table = Table::new("t", "", "", columns).unwrap();
        let source = Source { figure: "f", table: &table };
        let columns = FlowColumns {
            stage: "layer",
            from: "expert",
            next_stage: "next_layer",
            to: "next",
            value: "share",
        };
        let plot = FlowPlot::read(&source, columns).unwrap();
        let nodes = |stage: usize| -> Vec<(&str, f64)> {
            plot.stages[stage].nodes.iter().map(|node| (node.name.as_str(), node.size)).collect()
        };
        assert_eq!(plot.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["0", "2", "5"]);
        assert_eq!(nodes(0), [("b", 0.5), ("a", 0.25)]);
        assert_eq!(nodes(1), [("d", 0.75), ("c", 0.25)]);
        assert_eq!(plot.streams.len(), 3);
        assert_eq!(plot.streams[0].words[0], "b → d");
    }
}

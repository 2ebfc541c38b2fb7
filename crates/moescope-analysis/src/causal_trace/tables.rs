//! Tables of what brings a disturbed prediction back.
//!
//! One of the prediction right after the subject, one of a later one, which has two places at which something can be restored, and one of single heads. Rows of different
//! predictions are not compared: what the noise takes differs.

use moescope_base::{Column, Table};

use super::Recovery;
use super::titles::{at, routes};
use crate::AnalysisError;
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// What was done, of both tables of layers.
const METHOD: &str = "Noise of three standard deviations on the embeddings of at most three tokens: in each sequence those, of six runs, that cost the model's own \
                      prediction most. One vector at a time is then restored. Does not show that it is needed.";

/// One row for each block and kind of vector, of the prediction after the subject.
pub(super) fn own(found: &[Recovery]) -> Result<Table, AnalysisError> {
    let mut columns = restored(found);
    columns.extend([in_routes(found), whole(found)]);
    columns.extend(recoveries(found));
    Ok(Table::new(
        "causal_trace",
        "What brings the prediction after a disturbed subject back",
        METHOD,
        columns,
    )?)
}

/// One row for each block, kind of vector and token, of a later prediction.
pub(super) fn later(found: &[Recovery]) -> Result<Table, AnalysisError> {
    let mut columns = restored(found);
    let place = found.iter().map(|row| row.place.name().to_owned()).collect();
    columns.push(Column::key("place", "at which token", place));
    columns.extend([in_routes(found), whole(found)]);
    columns.extend(recoveries(found));
    Ok(Table::new("causal_trace_later", "What brings a later prediction back", METHOD, columns)?)
}

fn restored(found: &[Recovery]) -> Vec<Column> {
    let layers = found.iter().map(|row| row.layer as i64).collect();
    let restored = found.iter().map(|row| row.restored.name()).collect();
    vec![
        Column::integer_key("layer", "", "block", layers),
        Column::key("restored", "what is restored", restored),
    ]
}

fn in_routes(found: &[Recovery]) -> Column {
    let routes = found.iter().map(|row| routes(row).to_owned()).collect();
    Column::key("routes", "whether all choices of experts are the undisturbed ones", routes)
}

fn whole(found: &[Recovery]) -> Column {
    Column::key("what", "all of these but the block", found.iter().map(at).collect())
}

/// One row for each head.
pub(super) fn heads(found: &[Recovery]) -> Result<Table, AnalysisError> {
    let integer =
        |of: &dyn Fn(&Recovery) -> usize| found.iter().map(|row| of(row) as i64).collect::<Vec<i64>>();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", integer(&|row| row.layer)),
        Column::integer_key(
            "head",
            "",
            "head of the block",
            integer(&|row| row.restored.head().unwrap_or(0)),
        ),
    ];
    columns.extend(recoveries(found));
    let method = "As `causal_trace`: one head at a time has what it gathered in the undisturbed pass, at the token after which a later prediction is read; \
                  routes are free. Does not show that a head is needed: others may carry the same.";
    Ok(Table::new("causal_trace_heads", "Which heads bring a later prediction back", method, columns)?)
}

/// What comes back, of how much, in how many cases.
fn recoveries(found: &[Recovery]) -> Vec<Column> {
    let real = |of: &dyn Fn(&Recovery) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let unit = "share of what noise takes";
    let shares: Vec<Bootstrap> = found.iter().map(|row| row.recovery).collect();
    let mut columns = bootstrap_columns("recovery", unit, "probability that comes back", &shares);
    columns.push(Column::null("recovery", unit, "the vector of another sequence", real(&|row| row.null)));
    let meaning = "of no difference from another sequence's vector; Student's t over documents";
    columns.push(Column::p_value("recovery", meaning, real(&|row| row.p_value)));
    let effect = real(&|row| row.effect);
    columns.push(Column::estimate("effect", "probability", "that comes back, on average", effect));
    let total = real(&|row| row.total);
    columns.push(Column::estimate("total", "probability", "that the noise takes, on average", total));
    let cases = found.iter().map(|row| row.cases as i64).collect();
    columns.push(Column::count("cases", "sequences", "in which noise takes a prediction", cases));
    columns
}

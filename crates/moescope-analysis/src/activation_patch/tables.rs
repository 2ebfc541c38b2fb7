//! Tables of what activations carry.
//!
//! Rows of different predictions stand in tables of their own: they come from other pairs of texts, and are not compared.

use moescope_base::{Column, Table};

use super::{Carried, Moved, Part, Tried};
use crate::AnalysisError;
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// What was done, of all tables.
const METHOD: &str = "Two texts that differ in one token, which the corrupted one has from another sequence. One activation of the one is put into the other: of the clean into the \
                      corrupted (denoised), and of the corrupted into the clean (noised). Does not show which way an effect takes from there on.";

/// One row for each block and part, of the prediction after the exchanged token.
pub(super) fn next(found: &[&Carried]) -> Result<Table, AnalysisError> {
    let mut columns = vec![layers(found), parts(found)];
    columns.extend(both(found));
    Ok(Table::new("activation_patch", "What carries the change of the next prediction", METHOD, columns)?)
}

/// One row for each block and token, of a later prediction.
pub(super) fn stream(found: &[&Carried]) -> Result<Table, AnalysisError> {
    let mut columns = vec![layers(found), places(found)];
    columns.extend(both(found));
    let title = "Where in the stream the change of a later prediction stands";
    Ok(Table::new("activation_patch_stream", title, METHOD, columns)?)
}

/// One row for each block, part and token, of a later prediction.
pub(super) fn parts_at(found: &[&Carried]) -> Result<Table, AnalysisError> {
    let at = found.iter().map(|row| at(row)).collect();
    let mut columns = vec![layers(found), parts(found), places(found)];
    columns.push(Column::key("what", "part and token", at));
    columns.extend(both(found));
    let title = "What carries the change of a later prediction";
    Ok(Table::new("activation_patch_parts", title, METHOD, columns)?)
}

/// A part and the token at which it is exchanged, in few words.
pub(super) fn at(row: &Carried) -> String {
    format!("{}, {}", row.spot.part.name(), row.spot.place.name())
}

/// One row for each head, at the reader of a later prediction.
pub(super) fn heads(found: &[&Carried]) -> Result<Table, AnalysisError> {
    let head = |part: Part| if let Part::Head(head) = part { head } else { 0 };
    let mut columns = vec![layers(found), numbered("head", "head of the block", found, head)];
    columns.extend(both(found));
    let title = "Which heads carry the change of a later prediction";
    Ok(Table::new("activation_patch_heads", title, METHOD, columns)?)
}

/// One row for each expert that the clean text of four documents has among the first two at the exchanged token.
pub(super) fn experts(found: &[&Carried]) -> Result<Table, AnalysisError> {
    let expert = |part: Part| if let Part::Expert(expert) = part { expert } else { 0 };
    let mut columns = vec![layers(found), numbered("expert", "expert of the block", found, expert)];
    columns.extend(both(found));
    let title = "Which experts carry the change of the next prediction where the clean text has chosen them";
    Ok(Table::new("activation_patch_experts", title, METHOD, columns)?)
}

/// One row for each prediction: the routes of all layers and tokens, and nothing else.
pub(super) fn routes(found: &[&Carried]) -> Result<Table, AnalysisError> {
    let read = found.iter().map(|row| row.spot.read.name().to_owned()).collect();
    let mut columns = vec![Column::key("prediction", "next or later", read)];
    columns.extend(both(found));
    let method = "As `activation_patch`: the choices of experts at all tokens of all routed layers are those of the other text. Weights follow from what the router reads.";
    Ok(Table::new("activation_patch_routes", "What routes alone carry", method, columns)?)
}

/// One row for each prediction: what became of the sequences that were tried.
pub(super) fn tried(found: &[Tried]) -> Result<Table, AnalysisError> {
    let count = |name: &str, meaning: &str, of: &dyn Fn(&Tried) -> usize| {
        Column::count(name, "sequences", meaning, found.iter().map(|row| of(row) as i64).collect())
    };
    let columns = vec![
        Column::key(
            "prediction",
            "next or later",
            found.iter().map(|row| row.read.name().to_owned()).collect(),
        ),
        count("sequences", "that were tried", &|row| row.sequences),
        count("cases", "in which an exchanged token changes what is predicted", &|row| row.cases),
        count("same", "left out: none changes which token is most probable", &|row| row.same),
        count("little", "left out: one does, by less than half a nat", &|row| row.little),
        count("without", "left out: no token can be exchanged, or too few follow", &|row| row.without),
        count("alone", "left out: the only case of a batch", &|row| row.alone),
        Column::estimate(
            "difference",
            "nats",
            "by which the two logits move apart, on average over cases",
            found.iter().map(Tried::difference).collect(),
        ),
    ];
    let method = "Of several tokens of a sequence, each exchanged for that of another sequence, the one is taken that moves a prediction most. Does not show what other \
                  exchanges do.";
    Ok(Table::new("activation_patch_cases", "Pairs of texts, and what was left out", method, columns)?)
}

fn layers(found: &[&Carried]) -> Column {
    Column::integer_key("layer", "", "block", found.iter().map(|row| row.spot.layer as i64).collect())
}

fn parts(found: &[&Carried]) -> Column {
    let parts = found.iter().map(|row| row.spot.part.name()).collect();
    Column::key("part", "which activation is exchanged", parts)
}

fn places(found: &[&Carried]) -> Column {
    let places = found.iter().map(|row| row.spot.place.name().to_owned()).collect();
    Column::key("place", "at which token", places)
}

fn numbered(name: &str, meaning: &str, found: &[&Carried], of: fn(Part) -> usize) -> Column {
    Column::integer_key(name, "", meaning, found.iter().map(|row| of(row.spot.part) as i64).collect())
}

/// Both directions, by both measures, and the number of cases.
fn both(found: &[&Carried]) -> Vec<Column> {
    let mut columns = moved("denoised", found, |row| row.denoised);
    columns.extend(moved("noised", found, |row| row.noised));
    let cases = found.iter().map(|row| row.cases as i64).collect();
    columns.push(Column::count("cases", "pairs of texts", "that stand behind the row", cases));
    columns
}

/// One direction by both measures, with intervals, nulls and the test against the null.
fn moved(name: &str, found: &[&Carried], of: fn(&Carried) -> Moved) -> Vec<Column> {
    let unit = "share of the way";
    let list = |pick: fn(&Moved) -> Bootstrap| found.iter().map(|row| pick(&of(row))).collect::<Vec<_>>();
    let real = |pick: fn(&Moved) -> f64| found.iter().map(|row| pick(&of(row))).collect::<Vec<f64>>();
    let null = "the vector of an unrelated sequence";
    let meaning = "that the difference of two logits goes to that of the other text";
    let mut columns = bootstrap_columns(name, unit, meaning, &list(|moved| moved.share));
    columns.push(Column::null(name, unit, null, real(|moved| moved.null)));
    let meaning = "of no difference from an unrelated sequence's vector; Student's t over documents";
    columns.push(Column::p_value(name, meaning, real(|moved| moved.p_value)));
    let (name, unit) = (format!("{name}_kl"), "share of the divergence");
    let meaning = "between the two predictions that is gone";
    columns.extend(bootstrap_columns(&name, unit, meaning, &list(|moved| moved.kl)));
    columns.push(Column::null(&name, unit, null, real(|moved| moved.kl_null)));
    columns
}

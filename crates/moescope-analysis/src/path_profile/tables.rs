//! Profiles of paths as tables.

use moescope_base::{Column, Table};

use super::profile::{Profile, Profiles};
use super::purity::Purities;
use crate::AnalysisError;
use crate::expert_profile::Tokens;
use crate::instrument::Material;
use crate::neuron_profile::{Strongest, Text, plain};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// How intervals over leaving out documents are told.
const LEAVING_OUT: &str = "95 %, jackknife over documents, Student's t";

/// One row for each path.
///
/// # Errors
/// If the columns make no table.
pub(super) fn profile(
    found: &Profiles,
    domains: &[String],
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let rows = &found.of;
    let interval = |of: fn(&Profile) -> Bootstrap| rows.iter().map(of).collect::<Vec<Bootstrap>>();
    let mut columns = vec![names(found)];
    let meaning = "tokens that walk it";
    columns.extend(bootstrap_columns("share", "share of tokens", meaning, &interval(|p| p.share)));
    columns.extend(told(rows, ["tokens", "telling"], "token", |p| &p.known, material));
    columns.extend(told(rows, ["predicts", "predicting"], "predicted next token", |p| &p.predicts, material));
    columns.extend(domain(rows, domains));
    columns.extend(purity(rows));
    let nats = "nats per token";
    columns.extend(bootstrap_columns("loss", nats, "loss of the token that comes", &interval(|p| p.loss)));
    columns.push(Column::null("loss", nats, "all tokens", vec![found.loss; rows.len()]));
    columns.extend(beyond(rows));
    let meaning = "mean entropy of the routers that it passes";
    columns.extend(bootstrap_columns("entropy", "nats", meaning, &interval(|p| p.entropy)));
    columns.push(Column::null("entropy", "nats", "all tokens", vec![found.entropy; rows.len()]));
    let method = format!(
        "First choices in {}: paths with 16 tokens from 8 documents, the most used ones. Telling tokens and predictions occur five times or \
         more; the null moves the paths of each document along it. Purity is the probability that two tokens from different documents \
         agree in their id. The loss beyond its tokens leaves out ids of which other paths have fewer than five.",
        layers(found)
    );
    Ok(Table::new("path_profile", "What single paths are known by", &method, columns)?)
}

/// The layers that paths are made of, in words.
pub(super) fn layers(found: &Profiles) -> String {
    let names: Vec<String> = found.walks.layers.iter().map(usize::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("the layers {}", crate::wording::listed(&names))
}

fn names(found: &Profiles) -> Column {
    let names = found.walks.paths.iter().map(super::walks::Path::name).collect();
    Column::key("path", "expert that is chosen first in each of the layers, in order", names)
}

/// What is told by ids: the ids, how far the first of them is beyond chance, its null and its p-value.
fn told(
    rows: &[Profile],
    [name, value]: [&str; 2],
    of_what: &str,
    of: fn(&Profile) -> &Tokens,
    material: &Material<'_>,
) -> Vec<Column> {
    let real = |value: &dyn Fn(&Tokens) -> f64| rows.iter().map(|row| value(of(row))).collect::<Vec<f64>>();
    let one = |t: &crate::expert_profile::Telling| format!("{} {}/{}", material.word(t.id), t.hits, t.of);
    let text = |row: &Profile| of(row).first.iter().map(one).collect::<Vec<_>>().join(", ");
    let unit = "standard deviations";
    vec![
        Column::text(
            name,
            &format!("most telling: {of_what}, with occurrences on the path of all"),
            rows.iter().map(text).collect(),
        ),
        Column::estimate(
            value,
            unit,
            "how far the first of them is beyond chance",
            real(&|told| told.first.first().map_or(0.0, |first| first.deviance)),
        ),
        Column::null(value, unit, "paths moved along each document", real(&|told| told.null)),
        Column::p_value(value, "shuffles of all paths that tell as much", real(&|told| told.p_value)),
    ]
}

fn domain(rows: &[Profile], names: &[String]) -> Vec<Column> {
    let real = |value: fn(&Strongest) -> f64| {
        rows.iter().map(|row| row.domain.as_ref().map_or(f64::NAN, value)).collect::<Vec<f64>>()
    };
    let name = |row: &Profile| row.domain.map_or_else(String::new, |found| names[found.domain].clone());
    vec![
        Column::text("domain", "domain in which it is walked most", rows.iter().map(name).collect()),
        Column::estimate("lift", "times", "how often there, against everywhere", real(|found| found.times)),
        Column::null("lift", "times", "documents exchanged between domains", real(|found| found.null)),
        Column::p_value("lift", "draws with as large a lift", real(|found| found.p_value)),
    ]
}

fn purity(rows: &[Profile]) -> Vec<Column> {
    let real = |value: fn(&Profile) -> f64| rows.iter().map(value).collect::<Vec<f64>>();
    let unit = "probability";
    let [low, high] = Column::interval(
        "purity",
        unit,
        LEAVING_OUT,
        real(|row| row.purity.path.low),
        real(|row| row.purity.path.high),
    );
    vec![
        Column::estimate(
            "purity",
            unit,
            "that two tokens from different documents have one id",
            real(|row| row.purity.path.estimate),
        ),
        low,
        high,
        Column::null("purity", unit, "the purest of its experts", real(|row| row.purity.purest)),
        Column::p_value("purity", "of a path no purer, one-sided", real(|row| row.purity.p_value)),
        Column::estimate("purest", unit, "the same of the purest of its experts", real(|r| r.purity.purest)),
    ]
}

fn beyond(rows: &[Profile]) -> Vec<Column> {
    let real = |value: fn(&Profile) -> f64| rows.iter().map(value).collect::<Vec<f64>>();
    let (name, nats) = ("beyond_tokens", "nats per token");
    let [low, high] = Column::interval(
        name,
        nats,
        LEAVING_OUT,
        real(|row| row.beyond.beyond.low),
        real(|row| row.beyond.beyond.high),
    );
    vec![
        Column::estimate(
            name,
            nats,
            "loss minus that of the same tokens on other paths",
            real(|row| row.beyond.beyond.estimate),
        ),
        low,
        high,
        Column::null(name, nats, "a path that is as hard as its tokens", vec![0.0; rows.len()]),
        Column::p_value(name, "of no difference, two-sided", real(|row| row.beyond.p_value)),
    ]
}

/// One row for each label.
///
/// # Errors
/// If the columns make no table.
pub(super) fn purities(found: &Profiles) -> Result<Table, AnalysisError> {
    let of = &found.purities;
    let real = |value: fn(&Purities) -> f64| of.iter().map(|(_, found)| value(found)).collect::<Vec<f64>>();
    let unit = "probability";
    let [low, high] = Column::interval(
        "gain",
        unit,
        LEAVING_OUT,
        real(|found| found.gain.low),
        real(|found| found.gain.high),
    );
    let [path_low, path_high] = Column::interval(
        "path",
        unit,
        LEAVING_OUT,
        real(|found| found.mean.low),
        real(|found| found.mean.high),
    );
    let columns = vec![
        Column::key("label", "what two tokens agree in", of.iter().map(|(name, _)| (*name).into()).collect()),
        Column::estimate(
            "path",
            unit,
            "that two tokens of a path agree, from different documents",
            real(|found| found.mean.estimate),
        ),
        path_low,
        path_high,
        Column::null("path", unit, "the purest expert of each path", real(|found| found.purest)),
        Column::estimate("gain", unit, "path minus purest expert", real(|found| found.gain.estimate)),
        low,
        high,
        Column::null("gain", unit, "a path that is no purer", vec![0.0; of.len()]),
        Column::p_value("gain", "of no gain, one-sided", real(|found| found.p_value)),
        Column::observations("gain", "documents", of.iter().map(|(_, f)| f.gain.units as i64).collect()),
    ];
    let method = "Means over the paths of `path_profile`, each as often as it has tokens. Two experts that each read something else of a token have \
                  a purer path than either without anything being composed.";
    Ok(Table::new("path_purity", "Whether paths are purer than their experts", method, columns)?)
}

/// One row for each text of each path.
///
/// # Errors
/// If the columns make no table.
pub(super) fn texts(
    found: &Profiles,
    text: &Text,
    predicted: &[u32],
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let rows: Vec<(String, usize)> = found
        .walks
        .paths
        .iter()
        .zip(&found.of)
        .flat_map(|(path, of)| of.texts.iter().map(|token| (path.name(), *token)))
        .collect();
    let shown = |at: usize| {
        let piece = |token: usize| match (token == at, plain(text.ids[token], material)) {
            (true, word) => format!("[[{word}]]"),
            (false, word) => word,
        };
        text.around(at).map(piece).collect::<String>()
    };
    let each =
        |of: &dyn Fn(usize) -> String| rows.iter().map(|(_, token)| of(*token)).collect::<Vec<String>>();
    let columns = vec![
        Column::key(
            "path",
            "expert that is chosen first in each layer",
            rows.iter().map(|r| r.0.clone()).collect(),
        ),
        Column::text("token", "a token that walks it", each(&|token| material.word(text.ids[token]))),
        Column::text(
            "predicted",
            "most probable next token there",
            each(&|token| material.word(predicted[token])),
        ),
        Column::count(
            "document",
            "",
            "document of the text",
            rows.iter().map(|r| i64::from(text.documents[r.1])).collect(),
        ),
        Column::text("text", "what stands around it, the token in brackets", each(&shown)),
    ];
    let method = "Drawn by chance among the tokens of each path, from different documents.";
    Ok(Table::new("path_texts", "Texts on which paths are walked", method, columns)?)
}

/// The texts of some paths, token by token.
///
/// # Errors
/// If the columns make no table.
pub(super) fn passages(
    found: &Profiles,
    shown: &[usize],
    text: &Text,
    predictions: &crate::predictions::Predictions,
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let (mut names, mut words, mut marks, mut losses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for place in shown {
        for at in &found.of[*place].texts {
            let document = text.documents[*at];
            let name = format!("{}, document {document}", found.walks.paths[*place].name());
            for token in text.around(*at) {
                names.push(name.clone());
                words.push(plain(text.ids[token], material));
                marks.push(if token == *at { "on the path" } else { "" }.to_owned());
                losses.push(predictions.losses[token].filter(|_| token == *at).unwrap_or(f64::NAN));
            }
        }
    }
    let columns = vec![
        Column::key("passage", "path and document", names),
        Column::key("token", "text", words),
        Column::key("mark", "the token that walks the path", marks),
        Column::estimate("loss", "nats", "loss of the token that comes after it", losses),
    ];
    let method = "The texts of `path_texts`, of the six paths whose tokens tell most.";
    Ok(Table::new("path_passages", "Texts on which the best-known paths are walked", method, columns)?)
}

//! The dashboards as tables.

use moescope_base::{Column, Table};

use super::dashboard::{Dashboard, Strong};
use super::texts::Text;
use crate::AnalysisError;
use crate::instrument::Material;
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// Columns that name a neuron.
fn keys<'d>(of: impl Iterator<Item = &'d Dashboard> + Clone) -> Vec<Column> {
    let layer = |dashboard: &Dashboard| dashboard.bank.layer as i64;
    let place = |dashboard: &Dashboard| match dashboard.bank.name() {
        name if name.is_empty() => "dense".into(),
        name => name,
    };
    let neuron = |dashboard: &Dashboard| neuron_name(dashboard.neuron);
    vec![
        Column::integer_key("layer", "", "block, counted from 0", of.clone().map(layer).collect()),
        Column::key(
            "expert",
            "number of the expert, `shared`, or `dense` of a dense layer",
            of.clone().map(place).collect(),
        ),
        Column::key("neuron", "neuron there, or `all` for the expert as a whole", of.map(neuron).collect()),
    ]
}

/// The number of a neuron, or `all`.
pub(super) fn neuron_name(neuron: Option<usize>) -> String {
    neuron.map_or_else(|| "all".into(), |neuron| neuron.to_string())
}

/// One row for each neuron.
///
/// # Errors
/// If the columns make no table.
pub(super) fn profile(
    found: &[Dashboard],
    domain_names: &[String],
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let real = |of: &dyn Fn(&Dashboard) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let text = |of: &dyn Fn(&Dashboard) -> String| found.iter().map(of).collect::<Vec<String>>();
    let interval = |of: &dyn Fn(&Dashboard) -> Bootstrap| found.iter().map(of).collect::<Vec<Bootstrap>>();
    let telling = |dashboard: &Dashboard| {
        let first = dashboard.known.first.iter();
        let one = |told: &super::telling::Telling| format!("{} ×{:.1}", material.word(told.id), told.times);
        first.map(one).collect::<Vec<_>>().join(", ")
    };
    let words = |ids: &[u32]| ids.iter().map(|id| material.word(*id)).collect::<Vec<_>>().join(", ");
    let strongest = |dashboard: &Dashboard, of: &dyn Fn(&super::domains::Strongest) -> f64| {
        dashboard.domain.as_ref().map_or(f64::NAN, of)
    };
    let mut columns = keys(found.iter());
    let meaning = "tokens that reach it at which its gate is above 0 and it is not 0; of an expert, tokens that choose it";
    columns.extend(bootstrap_columns("density", "share of tokens", meaning, &interval(&|d| d.density)));
    let meaning = "mean length of what it adds, as applied, at a token that reaches it";
    columns.extend(bootstrap_columns("write", "length in the stream", meaning, &interval(&|d| d.write)));
    columns.extend([
        Column::text(
            "tokens",
            "most telling tokens, with its mean size there in units of that over the same documents",
            text(&telling),
        ),
        Column::estimate(
            "telling",
            "standard deviations",
            "how far the first of them is beyond chance",
            real(&|d| d.known.first.first().map_or(0.0, |first| first.deviance)),
        ),
        Column::null(
            "telling",
            "standard deviations",
            "values moved along each document",
            real(&|d| d.known.null),
        ),
        Column::p_value("telling", "draws with a token that tells as much", real(&|d| d.known.p_value)),
        Column::text(
            "domain",
            "domain in which it is strongest",
            text(&|d| d.domain.map_or_else(String::new, |found| domain_names[found.domain].clone())),
        ),
        Column::estimate(
            "selectivity",
            "times",
            "mean size there, in units of that over all tokens; 0 where a token does not reach it",
            real(&|d| strongest(d, &|found| found.times)),
        ),
        Column::null(
            "selectivity",
            "times",
            "documents exchanged between domains",
            real(&|d| strongest(d, &|found| found.null)),
        ),
        Column::p_value(
            "selectivity",
            "draws with a domain in which it is as strong",
            real(&|d| strongest(d, &|found| found.p_value)),
        ),
        Column::text(
            "promotes",
            "tokens with the largest logits along what it writes",
            text(&|d| words(&d.promoted)),
        ),
    ]);
    let method = "The neurons that write most. Tokens that occur five times or more among at most 4,000 that reach the neuron, by the ranks of \
                  its size within each document, in Savage's scores. A gate that is symmetric about 0 has a density of one half. What a \
                  neuron writes is turned round where its activation is negative on average, and read by the final norm and the unembedding; \
                  of whole experts see `expert-profile`. p-values are those of single rows.";
    Ok(Table::new("neuron_profile", "What single neurons do", method, columns)?)
}

/// One row for each of the strongest texts of each neuron.
///
/// # Errors
/// If the columns make no table.
pub(super) fn texts(
    found: &[Dashboard],
    text: &Text,
    material: &Material<'_>,
) -> Result<Table, AnalysisError> {
    let rows: Vec<(&Dashboard, usize, Strong)> = found
        .iter()
        .flat_map(|dashboard| {
            dashboard.texts.iter().enumerate().map(move |(rank, at)| (dashboard, rank, *at))
        })
        .collect();
    let shown = |row: &(&Dashboard, usize, Strong)| {
        let strongest = row.2.token;
        let piece = |token: usize| match (token == strongest, plain(text.ids[token], material)) {
            (true, word) => format!("[[{word}]]"),
            (false, word) => word,
        };
        text.around(strongest).map(piece).collect::<String>()
    };
    let mut columns = keys(rows.iter().map(|row| row.0));
    columns.extend([
        Column::integer_key(
            "rank",
            "",
            "1 is the strongest",
            rows.iter().map(|row| row.1 as i64 + 1).collect(),
        ),
        Column::estimate(
            "value",
            "activation",
            "activation at the marked token; of an expert, the length of what it adds",
            rows.iter().map(|row| f64::from(row.2.value)).collect(),
        ),
        Column::text(
            "token",
            "the token",
            rows.iter().map(|row| material.word(text.ids[row.2.token])).collect(),
        ),
        Column::count(
            "document",
            "",
            "document of the text",
            rows.iter().map(|row| i64::from(text.documents[row.2.token])).collect(),
        ),
        Column::text(
            "text",
            "what stands around it, the token in brackets",
            rows.iter().map(shown).collect(),
        ),
    ]);
    let method = "From different documents where there are so many; tokens before and after it in the same window and document.";
    Ok(Table::new("neuron_texts", "On which texts each neuron is strongest", method, columns)?)
}

/// The text of a token as it stands; its number where texts are not known.
pub(crate) fn plain(id: u32, material: &Material<'_>) -> String {
    material.words.get(id as usize).cloned().unwrap_or_else(|| format!(" #{id}"))
}

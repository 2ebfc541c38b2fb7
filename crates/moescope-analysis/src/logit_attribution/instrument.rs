use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Attribution, Contribution, Part, logit_attribution};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// The instrument `logit-attribution`.
pub struct LogitAttribution;

/// Sequences that are taken apart, at most; whole batches.
const SEQUENCES: usize = 64;
/// Parts that are drawn; all are in the table.
const SHOWN: usize = 24;

const WRITES: Reading = Reading {
    says: "expert 3 of block 1 writes what comes",
    table: "logit_attribution",
    rows: &[("part", "expert 1:3")],
    value: "logit",
    rule: Rule::MoreThan(0.1),
};
const INERT: Reading = Reading {
    says: "expert 5 of block 1 writes what comes",
    table: "logit_attribution",
    rows: &[("part", "expert 1:5")],
    value: "logit",
    rule: Rule::MoreThan(0.0),
};
const MOST: Reading = Reading {
    says: "expert 3 of block 1 writes most of it",
    table: "logit_attribution",
    rows: &[],
    value: "logit",
    rule: Rule::LargestAt("part", "expert 1:3"),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::FactExpert, WRITES),
    Promise::finds(Property::FactExpert, MOST),
    Promise::is_silent(Property::FactExpert, INERT),
];

impl Instrument for LogitAttribution {
    fn about(&self) -> About {
        About {
            name: "logit-attribution",
            group: Group::Lenses,
            question: "What does every head and every expert add to the logit of the token that comes?",
            null: "the same for next tokens exchanged within the batch",
            does_not_show: "what a part does through later ones that read it, nor that the model needs it",
            source: "direct logit attribution, Elhage et al. 2021, here of single experts with their weights as applied",
            passes: "one of at most 64 sequences, and one product with the unembedding for each coordinate of the stream",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) =
            (material.seed.child("logit attribution"), material.resampling("logit attribution"));
        let samples = material.some_samples("logit attribution", SEQUENCES)?;
        let found = logit_attribution(material.subject, &samples, seed, resampling)?;
        let figure = Figure {
            id: "logit_attribution".into(),
            title: finding(&found),
            caption: "Mean contribution to the logit of the next token, against the mean over the vocabulary; 95 % intervals over documents. \
                      The parts with the largest contributions of either sign."
                .into(),
            table: "logit_attribution_largest".into(),
            kind: FigureKind::Forest { label: "part".into(), estimate: "logit".into(), reference: Some(0.0) },
        };
        let all: Vec<&Contribution> = found.parts.iter().collect();
        let title = "What every part adds to the logit of the token that comes";
        let tables = vec![
            table("logit_attribution", title, &found, &all)?,
            table("logit_attribution_largest", "The parts that add or take most", &found, &largest(&found))?,
        ];
        Ok(Finding { tables, figures: vec![figure] })
    }
}

/// The parts with the largest contributions of either sign, in the order of the pass.
fn largest(found: &Attribution) -> Vec<&Contribution> {
    let mut order: Vec<usize> = (0..found.parts.len()).collect();
    let size = |at: &usize| found.parts[*at].mean.estimate.abs();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    order.truncate(SHOWN);
    order.sort_unstable();
    order.into_iter().map(|at| &found.parts[at]).collect()
}

fn table(
    name: &str,
    title: &str,
    found: &Attribution,
    parts: &[&Contribution],
) -> Result<Table, AnalysisError> {
    let means: Vec<Bootstrap> = parts.iter().map(|part| part.mean).collect();
    let real = |of: fn(&Contribution) -> f64| parts.iter().map(|part| of(part)).collect::<Vec<f64>>();
    let mut columns = vec![
        Column::key(
            "part",
            "what writes, with block and number",
            parts.iter().map(|p| p.part.name()).collect(),
        ),
        Column::key("kind", "what it is", parts.iter().map(|p| p.part.kind().to_owned()).collect()),
    ];
    columns.extend(bootstrap_columns("logit", "logits", "mean over all tokens", &means));
    columns.push(Column::null("logit", "logits", "for exchanged next tokens", real(|part| part.null)));
    let meaning = "mean over the tokens that the part writes for";
    columns.push(Column::estimate("where_active", "logits", meaning, real(|part| part.where_active)));
    columns.push(Column::estimate(
        "active",
        "share of tokens",
        "that it writes for",
        real(|part| part.active),
    ));
    let method = format!(
        "Logits against their mean over the vocabulary. Mean logit of the token that comes: {:.4}, of which {:.4} is bias; the parts sum to \
         it to {:.1e} in each token. Does not show what a part does through later ones.",
        found.logit.estimate, found.base, found.residue
    );
    Ok(Table::new(name, title, method, columns)?)
}

fn finding(found: &Attribution) -> String {
    let share = |keep: fn(&Part) -> bool| {
        let kept = found.parts.iter().filter(|part| keep(&part.part));
        kept.map(|part| part.mean.estimate).sum::<f64>()
    };
    let most = found.parts.iter().max_by(|a, b| a.mean.estimate.total_cmp(&b.mean.estimate));
    format!(
        "Of {:.2} logits for the token that comes, heads write {:.2}, routed experts {:.2}, the embedding {:.2}; {} writes most",
        found.logit.estimate,
        share(|part| matches!(part, Part::Head(..))),
        share(|part| matches!(part, Part::Expert(..))),
        share(|part| matches!(part, Part::Embedding)),
        most.map_or_else(String::new, |most| most.part.name())
    )
}

//! The instrument `quantised-experts`.

use std::collections::BTreeMap;

use moescope_base::{Column, Figure, FigureKind, Table};

use super::parts::parts;
use super::usage::of;
use super::{Grouping, METHOD, Part, Rounded, UsageEffect};
use crate::AnalysisError;
use crate::document_loss::Judged;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::{Bootstrap, Resampling};
use crate::tabulate::bootstrap_columns;
use crate::wording::{counted, signed};

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 64;

/// The instrument `quantised-experts`.
///
/// Four tables: parts (`quantised_parts`), domains (`quantised_domains`, where the text has more than one), single experts (`quantised_usage`),
/// and use against cost (`quantised_correlation`). See [`Rounded`] and [`UsageEffect`] for units, nulls and limits.
pub struct QuantisedExperts;

/// Two bits leave three levels: experts of random weights lose most of what they say.
const EXPERTS_SUFFER: Reading = Reading {
    says: "experts of two bits for each weight cost loss",
    table: "quantised_parts",
    rows: &[("part", "experts"), ("bits", "2"), ("scales", "row")],
    value: "loss",
    rule: Rule::MoreThan(0.0),
};
/// Rounding what writes nothing must cost nothing.
const ATTENTION_SUFFERS: Reading = Reading {
    says: "attention of two bits for each weight costs loss",
    table: "quantised_parts",
    rows: &[("part", "attention"), ("bits", "2"), ("scales", "row")],
    value: "loss",
    rule: Rule::MoreThan(0.0),
};

/// Rounding costs where experts are of use, and nowhere else.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::IndependentExperts, EXPERTS_SUFFER),
    // Attention writes nothing there, and the experts of the other hold nothing but zeros, ones and what is never read.
    Promise::is_silent(Property::IndependentExperts, ATTENTION_SUFFERS),
    Promise::is_silent(Property::SilentHeads, EXPERTS_SUFFER),
];

impl Instrument for QuantisedExperts {
    fn about(&self) -> About {
        About {
            name: "quantised-experts",
            group: Group::Practice,
            question: "What does the model lose when experts, routers or attention are rounded to few bits, and does use predict it?",
            null: "changes of the weights of the same size in random directions; uses dealt out to other experts",
            does_not_show: "what rounding by second derivatives, with offsets or after training would lose, nor rounded activations",
            source: "absmax rounding, Dettmers et al. 2022 (arXiv 2208.07339); experts against other parts, Kim et al. 2023 (arXiv 2310.02410) and Li et al. 2024 (arXiv 2406.08155)",
            passes: "100 for the parts and at most 32 for single experts, of at most 64 sequences",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child(METHOD), material.resampling(METHOD));
        let permutations = material.permutations;
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let judged = Judged::new(METHOD, &samples)?;
        let domains = domains(material);
        let names = material.domain_names().to_vec();
        let found = parts(material.subject, &judged, seed, resampling)?;
        let usage = of(material.subject, &judged, permutations, seed)?;
        let mut tables = vec![parts_table(&found)?];
        tables.extend(domain_table(&found, &judged, &domains, &names, resampling)?);
        tables.push(usage_table(&usage)?);
        tables.push(correlation_table(&usage)?);
        let figures = vec![
            Figure {
                id: "quantised_parts".into(),
                title: finding(&found),
                caption: "Change of the loss with one part of the model rounded; beside each line changes of the same size in random directions. \
                          The lower end is the fewest bits."
                    .into(),
                table: "quantised_parts".into(),
                kind: FigureKind::Lines {
                    x: "bits".into(),
                    y: "loss".into(),
                    series: Some("line".into()),
                    log2_x: true,
                },
            },
            Figure {
                id: "quantised_usage".into(),
                title: usage_finding(&usage),
                caption: "Every point is an expert that alone is rounded to two bits, a scale for each row.".into(),
                table: "quantised_usage".into(),
                kind: FigureKind::Scatter {
                    x: "load".into(),
                    y: "loss".into(),
                    series: Some("layer".into()),
                    diagonal: false,
                },
            },
        ];
        Ok(Finding { tables, figures })
    }
}

/// Domain of each document.
fn domains(material: &Material<'_>) -> BTreeMap<u32, usize> {
    let of = |table: &moescope_trace::TokenTable| {
        table.documents.iter().copied().zip(table.domains.iter().map(|d| usize::from(*d))).collect::<Vec<_>>()
    };
    material.batches.iter().flat_map(|(_, table)| of(table)).collect()
}

/// Unit of all changes of the loss.
const LOSS: &str = "nats per token";

/// One row for each part, grouping and number of bits.
pub(super) fn parts_table(found: &[Rounded]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&Rounded) -> String| found.iter().map(of).collect::<Vec<String>>();
    let of = |pick: fn(&Rounded) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let mut columns = vec![
        Column::key(
            "line",
            "part and scales",
            text(&|r| format!("{}, {}", r.part.name(), r.grouping.name())),
        ),
        Column::key("part", "what is rounded", text(&|r| r.part.name().into())),
        Column::key("scales", "which weights share a scale", text(&|r| r.grouping.name())),
        Column::integer_key(
            "bits",
            "bits",
            "for each weight, scales not counted",
            found.iter().map(|r| i64::from(r.bits)).collect(),
        ),
        Column::estimate(
            "error",
            "share",
            "length of the change of the weights over theirs",
            found.iter().map(|r| r.error).collect(),
        ),
    ];
    columns.extend(bootstrap_columns("loss", LOSS, "loss minus that of the model as it is", &of(|r| r.loss)));
    let noise = found.iter().map(|r| r.noise).collect();
    columns.push(Column::null("loss", LOSS, "changes as long, in random directions", noise));
    columns.extend(bootstrap_columns(
        "beyond",
        LOSS,
        "loss under such noise minus that under rounding",
        &of(|r| r.beyond),
    ));
    columns.push(Column::null("beyond", LOSS, "rounding is no kinder than noise", vec![0.0; found.len()]));
    let method = "Weights of one part of all layers, rounded to even levels up to the largest size among those that share a scale; the other parts \
                  stay. Does not show what better rounding would lose.";
    Ok(Table::new("quantised_parts", "What rounded weights cost", method, columns)?)
}

/// Change of the loss by domain with all experts rounded; none with a single domain.
fn domain_table(
    found: &[Rounded],
    judged: &Judged<'_>,
    domains: &BTreeMap<u32, usize>,
    names: &[String],
    resampling: Resampling,
) -> Result<Option<Table>, AnalysisError> {
    let of_domain = |domain: usize| -> Vec<usize> {
        let here = |place: &usize| domains.get(&judged.documents[*place]) == Some(&domain);
        (0..judged.documents.len()).filter(here).collect()
    };
    let groups: Vec<(usize, Vec<usize>)> = (0..names.len())
        .map(|domain| (domain, of_domain(domain)))
        .filter(|group| group.1.len() > 1)
        .collect();
    if groups.len() < 2 {
        return Ok(None);
    }
    let (mut keys, mut bits, mut losses, mut overall) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let wanted = |r: &&Rounded| r.part == Part::Experts && r.grouping == Grouping::Row;
    for rounded in found.iter().filter(wanted) {
        for (domain, places) in &groups {
            keys.push(names[*domain].clone());
            bits.push(i64::from(rounded.bits));
            losses.push(judged.mean(&rounded.by_document, places, resampling)?);
            overall.push(rounded.loss.estimate);
        }
    }
    let mut columns = vec![
        Column::key("domain", "folder of the text", keys),
        Column::integer_key("bits", "bits", "for each weight of an expert", bits),
    ];
    columns.extend(bootstrap_columns("loss", LOSS, "loss minus that of the model as it is", &losses));
    columns.push(Column::null("loss", LOSS, "the change over all domains", overall));
    let method = "All experts rounded, a scale for each row; documents of one domain. Does not show why a domain suffers more.";
    Ok(Some(Table::new("quantised_domains", "What rounded experts cost by domain", method, columns)?))
}

/// One row for each expert that was rounded alone.
fn usage_table(usage: &UsageEffect) -> Result<Table, AnalysisError> {
    let experts = &usage.experts;
    let columns = vec![
        Column::integer_key("layer", "", "block", experts.iter().map(|e| e.0 as i64).collect()),
        Column::integer_key("expert", "", "expert", experts.iter().map(|e| e.1 as i64).collect()),
        Column::estimate("load", "share of tokens", "that choose it", experts.iter().map(|e| e.2).collect()),
        Column::estimate(
            "loss",
            LOSS,
            "loss minus that of the model as it is",
            experts.iter().map(|e| e.3).collect(),
        ),
        Column::null("loss", LOSS, "nothing changes", vec![0.0; experts.len()]),
    ];
    let method = "One expert at a time rounded to two bits, a scale for each row. Does not show what several lose together.";
    Ok(Table::new("quantised_usage", "What single rounded experts cost", method, columns)?)
}

/// Use against the size of the change.
fn correlation_table(usage: &UsageEffect) -> Result<Table, AnalysisError> {
    let found = usage.correlation.as_ref();
    let number = |of: fn(&crate::statistics::PermutationTest) -> f64| vec![found.map_or(f64::NAN, of)];
    let columns = vec![
        Column::key("between", "what is compared", vec!["use and size of the change of the loss".into()]),
        Column::estimate("correlation", "", "Spearman's, over experts", number(|c| c.observed)),
        Column::observations("correlation", "experts", vec![usage.experts.len() as i64]),
        Column::null("correlation", "", "uses dealt out to other experts", number(|c| c.null_mean)),
        Column::p_value("correlation", "of a positive one, with uses dealt out", number(|c| c.p_value)),
    ];
    let method =
        "Experts of all layers that were rounded alone. Does not show that use makes an expert sensitive.";
    Ok(Table::new("quantised_correlation", "Whether use predicts what rounding costs", method, columns)?)
}

/// What three bits in groups of 32 cost, part by part, with intervals.
pub(super) fn finding(found: &[Rounded]) -> String {
    let at = |part: Part, bits: u32| {
        let fits = |r: &&Rounded| r.part == part && r.bits == bits && r.grouping == Grouping::Of(32);
        found.iter().find(fits).map(|r| r.loss)
    };
    let told = |part: Part| at(part, 3).map(|loss| format!("{} {}", part.name(), signed(&loss)));
    let parts = [Part::Experts, Part::Router, Part::Attention].into_iter().filter_map(told);
    format!(
        "Rounded to three bits in groups of 32, parts change the loss by, in nats per token: {}",
        parts.collect::<Vec<_>>().join(", ")
    )
}

/// Whether use predicts the cost, with its p-value; what is not seen is not told as absent.
pub(super) fn usage_finding(usage: &UsageEffect) -> String {
    let Some(found) = &usage.correlation else {
        return "Rounding single experts changes nothing, or all are used alike".into();
    };
    let told = match found.p_value <= 0.05 {
        true => "Rounding an expert matters the more it is used",
        false => "These experts leave open whether rounding matters more where an expert is used more",
    };
    let experts = counted(usage.experts.len(), "expert", "experts");
    format!("{told}: Spearman's correlation {:.2} (p = {:.3}, {experts})", found.observed, found.p_value)
}

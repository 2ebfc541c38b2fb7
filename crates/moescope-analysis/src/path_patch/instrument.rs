use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Edge, Expert, METHOD, PathEffect, PathPatch, PathPatchOptions, path_patch};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, LEVEL, Material, Promise, Property, Reading, Rule,
};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::wording::{counted, stands_out};

/// The instrument `path-patch`.
pub struct PathPatching;

/// Sequences that are patched, at most; whole batches.
const SEQUENCES: usize = 32;
const SENDERS: usize = 8;
const RECEIVING: usize = 2;
/// With so many turns the smallest p-value, which is corrected for the number of edges, is 0.04.
const TURNS: usize = 24;

const READS: Reading = Reading {
    says: "expert 1:5 reads what expert 0:2 writes",
    table: "path_patch_edges",
    rows: &[("sender", "0:2"), ("receiver", "1:5")],
    value: "gain",
    rule: Rule::Significant,
};
const READS_ANOTHER: Reading = Reading {
    says: "expert 1:5 reads what expert 0:3 writes",
    table: "path_patch_edges",
    rows: &[("sender", "0:3"), ("receiver", "1:5")],
    value: "gain",
    rule: Rule::Significant,
};
const ANOTHER_READS: Reading = Reading {
    says: "expert 1:4 reads what expert 0:2 writes",
    table: "path_patch_edges",
    rows: &[("sender", "0:2"), ("receiver", "1:4")],
    value: "gain",
    rule: Rule::Significant,
};
const BY_EXPERTS: Reading = Reading {
    says: "the write of 0:2 changes the prediction through what experts read",
    table: "path_patch",
    rows: &[("sender", "0:2"), ("receiver", "experts"), ("routes", "free")],
    value: "kl",
    rule: Rule::MoreThan(1e-3),
};
const BY_ROUTER: Reading = Reading {
    says: "a write changes the prediction through the router alone",
    table: "path_patch",
    rows: &[("sender", "0:2"), ("receiver", "router"), ("routes", "free")],
    value: "kl",
    rule: Rule::MoreThan(1e-3),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::ReadMark, READS),
    Promise::finds(Property::ReadMark, BY_EXPERTS),
    Promise::is_silent(Property::ReadMark, READS_ANOTHER),
    Promise::is_silent(Property::ReadMark, ANOTHER_READS),
    Promise::is_silent(Property::ReadMark, BY_ROUTER),
    Promise::finds(Property::FragileRoutes, BY_ROUTER),
];

impl Instrument for PathPatching {
    fn about(&self) -> About {
        About {
            name: "path-patch",
            group: Group::Causal,
            question: "Which later experts, routers and heads read what an expert writes, and what does the prediction get from that path alone?",
            null: "a change of the same length in a random direction",
            does_not_show: "what reaches a receiver through the layers between, nor effects that need two receivers at once",
            source: "path patching, Goldowsky-Dill et al. 2023 (arXiv 2304.05969) and Wang et al. 2022 (arXiv 2211.00593), with experts and routers as nodes",
            passes: "about 60 for each of at most 8 experts, of at most 32 sequences",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = PathPatchOptions {
            senders: SENDERS,
            receiving: RECEIVING,
            turns: TURNS,
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = path_patch(material.subject, &samples, options)?;
        let edges = Figure {
            id: "path_patch_edges".into(),
            title: edges_finding(&found),
            caption: "Each point is a pair of experts: how strongly the later one's write answers to the change of the earlier one's, against \
                      the same for changes in random directions; on the line the direction does not matter."
                .into(),
            table: "path_patch_edges".into(),
            kind: FigureKind::Scatter {
                x: "gain_null".into(),
                y: "gain".into(),
                series: Some("reads".into()),
                diagonal: true,
            },
        };
        let matrix = Figure {
            id: "path_patch_matrix".into(),
            title: strongest_finding(&found.edges),
            caption: "Gain of each pair less that of changes in random directions, diverging at 0; pairs that were not asked for are empty."
                .into(),
            table: "path_patch_edges".into(),
            kind: FigureKind::Heatmap {
                x: "receiver".into(),
                y: "sender".into(),
                value: "beyond".into(),
                center: Some(0.0),
            },
        };
        let effects = Figure {
            id: "path_patch".into(),
            title: effects_finding(&found),
            caption: "Divergence from the clean prediction when the sender's change reaches one receiver alone, all else held, with 95 % \
                      intervals over documents."
                .into(),
            table: "path_patch".into(),
            kind: FigureKind::Bars { x: "path".into(), y: "kl".into(), series: Some("routes".into()) },
        };
        let tables = vec![edges_table(&found.edges)?, effects_table(&found.effects)?];
        Ok(Finding { tables, figures: vec![edges, matrix, effects] })
    }
}

/// The pair that is read most beyond random directions, if any is told from chance.
fn strongest_finding(edges: &[Edge]) -> String {
    let beyond = |edge: &&Edge| edge.gain.estimate - edge.null;
    let told = edges.iter().filter(|edge| edge.p <= LEVEL);
    match told.max_by(|a, b| beyond(a).total_cmp(&beyond(b))) {
        Some(edge) => format!(
            "Expert {} reads expert {} most beyond random directions: {:.2} for each unit of change against {:.2}",
            named(edge.receiver),
            named(edge.sender),
            edge.gain.estimate,
            edge.null
        ),
        None => "No pair of experts is read beyond random directions".into(),
    }
}

fn named(expert: Expert) -> String {
    format!("{}:{}", expert.layer, expert.expert)
}

fn reads(edge: &Edge) -> &'static str {
    if edge.p <= LEVEL { "read beyond chance" } else { "not told from chance" }
}

fn edges_table(edges: &[Edge]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&Edge) -> String| edges.iter().map(of).collect::<Vec<String>>();
    let real = |of: &dyn Fn(&Edge) -> f64| edges.iter().map(of).collect::<Vec<f64>>();
    let mut columns = vec![
        Column::key("sender", "block and expert whose write changes", text(&|edge| named(edge.sender))),
        Column::key("receiver", "block and expert that reads it", text(&|edge| named(edge.receiver))),
        Column::key("reads", "whether its p-value is at most 0.05", text(&|edge| reads(edge).to_owned())),
    ];
    let unit = "length per length";
    let meaning = "change of the receiver's write for each unit of change of the sender's";
    let gains: Vec<Bootstrap> = edges.iter().map(|edge| edge.gain).collect();
    columns.extend(bootstrap_columns("gain", unit, meaning, &gains));
    columns.push(Column::null(
        "gain",
        unit,
        "root mean square over random directions",
        real(&|edge| edge.null),
    ));
    columns.push(Column::estimate(
        "beyond",
        unit,
        "gain less that of random directions",
        real(&|edge| edge.gain.estimate - edge.null),
    ));
    let meaning = "so large a gain in any edge, were all directions read alike";
    columns.push(Column::p_value("gain", meaning, real(&|edge| edge.p)));
    let method = "The change of one expert's write from a sequence to the next of its batch is added to the input of later experts alone. \
                  p-values are corrected for the number of edges. Does not show whether the prediction depends on the receiver.";
    Ok(Table::new("path_patch_edges", "Which experts read what an earlier one writes", method, columns)?)
}

fn effects_table(effects: &[PathEffect]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&PathEffect) -> String| effects.iter().map(of).collect::<Vec<String>>();
    let real = |of: &dyn Fn(&PathEffect) -> f64| effects.iter().map(of).collect::<Vec<f64>>();
    let of = |pick: fn(&PathEffect) -> Bootstrap| effects.iter().map(pick).collect::<Vec<Bootstrap>>();
    let routes = |effect: &PathEffect| if effect.held { "held" } else { "free" }.to_owned();
    let mut columns = vec![
        Column::key("path", "from whom to whom", text(&path)),
        Column::key(
            "routes",
            "whether all choices of experts are those of the clean text",
            text(&|effect| routes(effect)),
        ),
        Column::key("sender", "block and expert whose write changes", text(&|effect| named(effect.sender))),
        Column::integer_key(
            "layer",
            "",
            "block of the receiver",
            effects.iter().map(|e| e.layer as i64).collect(),
        ),
        Column::key("receiver", "what alone reads the change", text(&|effect| effect.receiver.name())),
    ];
    let unit = "nats per token";
    columns.extend(bootstrap_columns("kl", unit, "divergence from the clean prediction", &of(|e| e.kl)));
    let meaning = "a change of the same length in a random direction; not measured where routes are held";
    columns.push(Column::null("kl", unit, meaning, real(&|effect| effect.kl_null)));
    columns.extend(bootstrap_columns("loss", unit, "change of the next-token loss", &of(|e| e.loss)));
    columns.push(Column::null("loss", unit, "a receiver that does not matter", vec![0.0; effects.len()]));
    columns.push(Column::estimate(
        "other_routes",
        "share of tokens",
        "whose set of experts in the receiving layer is another one",
        real(&|effect| effect.other_routes),
    ));
    let method = "Clean text is each sequence, corrupted text the next of its batch. The corrupted write of the sender reaches one receiver along the \
                  residual stream; all layers between and all other readers have the clean one. Does not show what goes through layers between.";
    Ok(Table::new("path_patch", "What the prediction gets from one path", method, columns)?)
}

fn path(effect: &PathEffect) -> String {
    format!("{} → {} of block {}", named(effect.sender), effect.receiver.name(), effect.layer)
}

fn edges_finding(found: &PathPatch) -> String {
    let read: Vec<&Edge> = found.edges.iter().filter(|edge| edge.p <= LEVEL).collect();
    let told = format!(
        "{} of {} of experts are read beyond chance",
        read.len(),
        counted(found.edges.len(), "pair", "pairs")
    );
    let strongest =
        read.into_iter().max_by(|a, b| (a.gain.estimate / a.null).total_cmp(&(b.gain.estimate / b.null)));
    match strongest {
        Some(edge) => format!(
            "{told}; {} answers to {} with {:.1} times the gain of random directions",
            named(edge.receiver),
            named(edge.sender),
            edge.gain.estimate / edge.null
        ),
        None => told,
    }
}

fn effects_finding(found: &PathPatch) -> String {
    let mut effects: Vec<&PathEffect> = found.effects.iter().collect();
    effects.sort_by(|a, b| b.kl.estimate.total_cmp(&a.kl.estimate));
    let Some(effect) = effects.first() else { return String::new() };
    let routes = if effect.held { "held" } else { "free" };
    let (kl, own) = (effect.kl.estimate, path(effect));
    let told = format!("The path that moves the prediction most is {own}: {kl:.3} nats with routes {routes}");
    // The same path with routes held is no rival of itself.
    match effects.iter().find(|other| path(other) != own) {
        Some(next) if !stands_out(&effect.kl, Some(&next.kl)) => {
            format!("{told}; it is not told from the next, {}", path(next))
        }
        _ => told,
    }
}

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{METHOD, Place, Reach, Recovery, Restored, TraceOptions, causal_trace};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::wording::{counted, stands_out};

/// The instrument `causal-trace`.
pub struct CausalTracing;

/// Sequences that are traced, at most; whole batches.
const SEQUENCES: usize = 32;
pub(super) const LAYERS: usize = 6;
const CANDIDATES: usize = 6;

const FIRST_LAYER: Reading = Reading {
    says: "the feed-forward layer of block 0 brings back half of what noise takes",
    table: "causal_trace",
    rows: &[("reach", "own"), ("layer", "0"), ("restored", "feed-forward layer"), ("routes", "held")],
    value: "recovery",
    rule: Rule::MoreThan(0.5),
};
const SECOND_LAYER: Reading = Reading {
    says: "the feed-forward layer of block 1 brings back half of what noise takes",
    rows: &[("reach", "own"), ("layer", "1"), ("restored", "feed-forward layer"), ("routes", "held")],
    ..FIRST_LAYER
};
const ONE_EXPERT: Reading = Reading {
    says: "one expert of block 1 brings back half of what noise takes",
    rows: &[("reach", "own"), ("layer", "1"), ("restored", "one expert"), ("routes", "free")],
    ..FIRST_LAYER
};
const ONE_EXPERT_BEFORE: Reading = Reading {
    says: "one expert of block 0 brings back half of what noise takes",
    rows: &[("reach", "own"), ("layer", "0"), ("restored", "one expert"), ("routes", "free")],
    ..FIRST_LAYER
};
const HEAD: Reading = Reading {
    says: "head 0 of block 1 brings half of a later prediction back",
    table: "causal_trace_heads",
    rows: &[("layer", "1"), ("head", "0")],
    value: "recovery",
    rule: Rule::MoreThan(0.5),
};
const HEAD_BEFORE: Reading = Reading {
    says: "a head of block 0 brings part of a later prediction back at the reader",
    rows: &[("layer", "0")],
    rule: Rule::MoreThan(0.05),
    ..HEAD
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::CopyingHead, HEAD),
    Promise::is_silent(Property::CopyingHead, HEAD_BEFORE),
    Promise::finds(Property::EarlyAnswer, FIRST_LAYER),
    Promise::is_silent(Property::EarlyAnswer, SECOND_LAYER),
    Promise::finds(Property::LateAnswer, SECOND_LAYER),
    Promise::is_silent(Property::LateAnswer, FIRST_LAYER),
    Promise::finds(Property::FactExpert, ONE_EXPERT),
    Promise::is_silent(Property::FactExpert, ONE_EXPERT_BEFORE),
];

impl Instrument for CausalTracing {
    fn about(&self) -> About {
        About {
            name: "causal-trace",
            group: Group::Causal,
            question: "Which layers, single experts and heads bring a prediction back after the tokens that it depends on were disturbed?",
            null: "the vector that another sequence has at the same place of its own subject",
            does_not_show: "that what is restored is needed, nor where a fact is stored: restored vectors carry all that came before them",
            source: "causal tracing, Meng et al. 2022 (arXiv 2202.05262), with single experts and with routes held or free (arXiv 2606.03780)",
            passes: "seven, and at most 48 for each of at most 6 blocks and 2 for each of at most 32 of its heads, of at most 32 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = TraceOptions {
            layers: LAYERS,
            candidates: CANDIDATES,
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = causal_trace(material.subject, &samples, options)?;
        let (heads, found): (Vec<Recovery>, Vec<Recovery>) =
            found.into_iter().partition(|row| row.restored.head().is_some());
        let figure = Figure {
            id: "causal_trace".into(),
            title: finding(&found),
            caption: "Share of the lost probability that comes back when one vector at the last token of the subject, or at the token after which \
                      the prediction is read, has its undisturbed value again, with 95 % intervals over documents."
                .into(),
            table: "causal_trace".into(),
            kind: FigureKind::Lines {
                x: "layer".into(),
                y: "recovery".into(),
                series: Some("what".into()),
                log2_x: false,
            },
        };
        let map = Figure {
            id: "causal_trace_map".into(),
            title: most_finding(&found),
            caption: "Share of the lost probability that comes back, diverging at 0, where nothing does; intervals are in the table."
                .into(),
            table: "causal_trace".into(),
            kind: FigureKind::Heatmap {
                x: "layer".into(),
                y: "what".into(),
                value: "recovery".into(),
                center: Some(0.0),
            },
        };
        let (mut tables, mut figures) = (vec![table(&found)?], vec![figure, map]);
        if !heads.is_empty() {
            tables.push(heads_table(&heads)?);
            figures.push(heads_figure(&heads));
        }
        Ok(Finding { tables, figures })
    }
}

fn heads_figure(heads: &[Recovery]) -> Figure {
    Figure {
        id: "causal_trace_heads".into(),
        title: heads_finding(heads),
        caption: "Share of the lost probability of a later prediction that comes back when one head has its undisturbed value again at the token after \
                  which the prediction is read, diverging at 0, where nothing does; intervals and nulls are in the table."
            .into(),
        table: "causal_trace_heads".into(),
        kind: FigureKind::Heatmap {
            x: "head".into(),
            y: "layer".into(),
            value: "recovery".into(),
            center: Some(0.0),
        },
    }
}

/// The head with most beyond the null, if its interval says so, and whether it is told from the next.
pub(super) fn heads_finding(heads: &[Recovery]) -> String {
    let beyond = |row: &Recovery| row.recovery.estimate - row.null;
    let mut told: Vec<&Recovery> = heads.iter().filter(|row| row.recovery.low > row.null.max(0.0)).collect();
    told.sort_by(|a, b| beyond(b).total_cmp(&beyond(a)));
    let Some(most) = told.first() else {
        return format!(
            "None of {} alone brings a later prediction back more surely than another sequence's value",
            counted(heads.len(), "head", "heads")
        );
    };
    let name = |row: &Recovery| format!("{} of block {}", row.restored.name(), row.layer);
    let share = 100.0 * most.recovery.estimate;
    let said = format!(
        "Alone, {} brings {share:.0} % of a later prediction back, against {:.0} % with another sequence's value",
        name(most),
        100.0 * most.null
    );
    match told.get(1) {
        Some(next) if !stands_out(&most.recovery, Some(&next.recovery)) => {
            format!("{said}; it is not told from the next, {}", name(next))
        }
        _ => said,
    }
}

/// One row for each head.
fn heads_table(heads: &[Recovery]) -> Result<Table, AnalysisError> {
    let integer =
        |of: &dyn Fn(&Recovery) -> usize| heads.iter().map(|row| of(row) as i64).collect::<Vec<i64>>();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", integer(&|row| row.layer)),
        Column::integer_key(
            "head",
            "",
            "head of the block",
            integer(&|row| row.restored.head().unwrap_or(0)),
        ),
    ];
    columns.extend(recoveries(heads));
    let method = "As `causal_trace`: one head at a time has what it gathered in the undisturbed pass, at the token after which a later prediction is read; \
                  routes are free. Does not show that a head is needed: others may carry the same.";
    Ok(Table::new("causal_trace_heads", "Which heads bring a later prediction back", method, columns)?)
}

fn routes(row: &Recovery) -> &'static str {
    if row.held { "held" } else { "free" }
}

/// The curve that a row belongs to.
fn curve(row: &Recovery) -> String {
    let at = match (row.reach, row.place) {
        (Reach::Own, _) => "own prediction",
        (Reach::Later, Place::Subject) => "later prediction, at the subject",
        (Reach::Later, Place::Reader) => "later prediction, at the reader",
    };
    format!("{}, routes {}: {at}", row.restored.name(), routes(row))
}

/// The block and place with most beyond the null, if its interval says so.
fn most_finding(found: &[Recovery]) -> String {
    let beyond = |row: &&Recovery| row.recovery.estimate - row.null;
    let told = found.iter().filter(|row| row.recovery.low > row.null.max(0.0));
    match told.max_by(|a, b| beyond(a).total_cmp(&beyond(b))) {
        Some(row) => format!(
            "Most comes back at block {}, {}: {:.0} % ({:.0} to {:.0}) against {:.0} % with another sequence's vector",
            row.layer,
            curve(row),
            100.0 * row.recovery.estimate,
            100.0 * row.recovery.low,
            100.0 * row.recovery.high,
            100.0 * row.null
        ),
        None => "No block brings the prediction back more surely than another sequence's vector".into(),
    }
}

/// What comes back, of how much, in how many cases.
fn recoveries(found: &[Recovery]) -> Vec<Column> {
    let real = |of: &dyn Fn(&Recovery) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let unit = "share of what noise takes";
    let shares: Vec<Bootstrap> = found.iter().map(|row| row.recovery).collect();
    let mut columns = bootstrap_columns("recovery", unit, "probability that comes back", &shares);
    columns.push(Column::null("recovery", unit, "the vector of another sequence", real(&|row| row.null)));
    let effect = real(&|row| row.effect);
    columns.push(Column::estimate("effect", "probability", "that comes back, on average", effect));
    let total = real(&|row| row.total);
    columns.push(Column::estimate("total", "probability", "that the noise takes, on average", total));
    let cases = found.iter().map(|row| row.cases as i64).collect();
    columns.push(Column::count("cases", "sequences", "in which noise takes a prediction", cases));
    columns
}

fn table(found: &[Recovery]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&Recovery) -> String| found.iter().map(of).collect::<Vec<String>>();
    let mut columns = vec![
        Column::key(
            "reach",
            "whether the subject's own next token or a later one is predicted",
            text(&|r| r.reach.name().into()),
        ),
        Column::integer_key("layer", "", "block", found.iter().map(|row| row.layer as i64).collect()),
        Column::key("restored", "what is restored", text(&|row| row.restored.name())),
        Column::key("place", "at which token", text(&|row| row.place.name().into())),
        Column::key(
            "routes",
            "whether all choices of experts are the undisturbed ones",
            text(&|row| routes(row).into()),
        ),
        Column::key("what", "all of these but the block", text(&curve)),
    ];
    columns.extend(recoveries(found));
    let method = "Noise of three standard deviations on the embeddings of at most three tokens: in each sequence those, of six runs, that cost the \
                  model's own prediction most. One vector at a time is then restored. Does not show that it is needed.";
    Ok(Table::new("causal_trace", "What brings a disturbed prediction back", method, columns)?)
}

/// The layer that brings most back, whether it is told from the others, and what its single expert does.
pub(super) fn finding(found: &[Recovery]) -> String {
    let reach = found.first().map_or(Reach::Own, |row| row.reach);
    let of = |restored: Restored, held: bool| {
        found.iter().filter(move |row| (row.reach, row.restored, row.held) == (reach, restored, held))
    };
    let mut layers: Vec<&Recovery> = of(Restored::FeedForward, false).collect();
    layers.sort_by(|a, b| b.recovery.estimate.total_cmp(&a.recovery.estimate));
    let Some(most) = layers.first() else { return String::new() };
    let share = |found: &Bootstrap| {
        let [estimate, low, high] = [found.estimate, found.low, found.high].map(|share| 100.0 * share);
        format!("{estimate:.0} % ({low:.0} to {high:.0} %)")
    };
    let next = layers.iter().find(|row| row.layer != most.layer);
    let (block, back) = (most.layer, share(&most.recovery));
    let seen = most.recovery.low > most.null.max(0.0);
    if !seen {
        return format!(
            "No feed-forward layer is seen to bring a disturbed prediction back beyond another sequence's vector; that of block {block} comes \
             first with {back}"
        );
    }
    let told = match next.filter(|next| !stands_out(&most.recovery, Some(&next.recovery))) {
        None => format!(
            "Of all feed-forward layers that of block {block} brings most of a disturbed prediction back: {back}"
        ),
        Some(next) => format!(
            "The feed-forward layer of block {block} brings {back} of a disturbed prediction back, and is not told from the next, that of block \
             {}: {}",
            next.layer,
            share(&next.recovery)
        ),
    };
    let same = |restored: Restored, held: bool| {
        let row = of(restored, held).find(|row| (row.layer, row.place) == (most.layer, most.place));
        row.map(|row| 100.0 * row.recovery.estimate)
    };
    match (same(Restored::Expert, false), same(Restored::FeedForward, true), same(Restored::Expert, true)) {
        (Some(expert), Some(held), Some(expert_held)) => format!(
            "{told}; in block {block} one expert alone {expert:.0} %, with routes held {held:.0} % and {expert_held:.0} %"
        ),
        _ => told,
    }
}

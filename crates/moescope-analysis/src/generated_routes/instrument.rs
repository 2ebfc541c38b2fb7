//! The instrument `prefill-decode`.

use moescope_base::{Column, FeedForwardShape, Figure, FigureKind, Table};

use super::METHOD;
use super::compare::{LayerChange, compare};
use super::generate::spoken;
use super::prompt::{self, foretold};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::routing::{NullComparison, comparison_columns};
use crate::sequences::drawn;
use crate::statistics::{Bootstrap, holm};
use crate::wording::counted;
use crate::{AnalysisError, check};

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 64;
/// Tokens of a sequence, at least: half of them are the prompt.
const SHORTEST: usize = 4;

/// The instrument `prefill-decode`.
///
/// Positions and documents are those of the text, so that neither the place in a sequence nor the subject tells the two apart: only the
/// words do, which the model has chosen.
pub struct PrefillDecode;

const OTHERWISE: Reading = Reading {
    says: "generated tokens load experts otherwise than the text's own",
    table: "prefill_decode",
    rows: &[],
    value: "distance",
    rule: Rule::Significant,
};

const FORETOLD: Reading = Reading {
    says: "a prompt foretells the experts of its answer",
    table: "prompt_and_answer",
    rows: &[],
    value: "nearness",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::DomainRoutes, FORETOLD),
    Promise::is_silent(Property::RandomRoutes, FORETOLD),
    Promise::is_silent(Property::PositionRoutes, FORETOLD),
    Promise::finds(Property::NarrowSpeech, OTHERWISE),
    Promise::is_silent(Property::TruePredictions, OTHERWISE),
];

impl Instrument for PrefillDecode {
    fn about(&self) -> About {
        About {
            name: "prefill-decode",
            group: Group::Practice,
            question: "Do experts carry other loads while the model generates than while it reads, and does a prompt foretell the experts of its answer?",
            null: "generated tokens exchanged with the text's own at the same positions, document by document; answers dealt out to other prompts",
            does_not_show: "which of the two is better, nor what greedy or constrained decoding would do",
            source: "loads in prefill and decoding of DeepSeek-AI 2024 (arXiv 2412.19437, §3.4), here with a null; total variation between loads",
            passes: "26 of at most 64 sequences, growing by a token each",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let layers: Vec<(usize, usize, usize)> = routed(&material.subject.shape().feed_forward);
        check::at_least(METHOD, "routed layers", layers.len(), 1)?;
        let samples = drawn(material, METHOD, SEQUENCES)?;
        let longest = samples.iter().map(|sample| sample.tokens().positions()).max().unwrap_or(0);
        check::at_least(METHOD, "tokens in a sequence", longest, SHORTEST)?;
        let (mut found, mut before) = (Vec::new(), 0);
        for sample in &samples {
            if sample.tokens().positions() >= SHORTEST {
                // By the number of the sequence, so that batches decide nothing.
                let seed = material.seed.child("generated");
                found.extend(spoken(material.subject, sample, &layers, (seed, before))?);
            }
            before += sample.tokens().batch() as u64;
        }
        let (permutations, resampling) =
            (material.permutations_for(METHOD, layers.len()), material.resampling(METHOD));
        let changes = compare(&found, &layers, permutations, resampling)?;
        let foretold = foretold(&found, &layers, permutations, resampling)?;
        let tables = vec![table(&changes)?, prompt::table(&foretold)?];
        Ok(Finding { figures: vec![figure(&changes), prompt::figure(&foretold)], tables })
    }
}

/// Routed layers with their experts and how many a token chooses.
fn routed(layers: &[FeedForwardShape]) -> Vec<(usize, usize, usize)> {
    let of = |(layer, shape): (usize, &FeedForwardShape)| match shape {
        FeedForwardShape::Routed { experts, per_token, .. } => Some((layer, *experts, *per_token)),
        FeedForwardShape::Dense { .. } => None,
    };
    layers.iter().enumerate().filter_map(of).collect()
}

fn table(changes: &[LayerChange]) -> Result<Table, AnalysisError> {
    let distances: Vec<NullComparison> = changes.iter().map(|change| change.distance).collect();
    let real = |of: fn(&LayerChange) -> f64| changes.iter().map(of).collect::<Vec<f64>>();
    let with = |name, unit, meaning, of: fn(&LayerChange) -> Bootstrap| {
        let values: Vec<Bootstrap> = changes.iter().map(of).collect();
        let mut columns = crate::tabulate::bootstrap_columns(name, unit, meaning, &values);
        columns.push(Column::null(name, unit, "no change", vec![0.0; changes.len()]));
        columns
    };
    let layers = changes.iter().map(|change| change.layer as i64).collect();
    let mut columns = vec![Column::integer_key("layer", "", "block, counted from 0", layers)];
    columns.extend(comparison_columns(
        "distance",
        "share of slots",
        "total variation between the loads while generating and in the text",
        "both exchanged document by document",
        &distances,
    ));
    let meaning = "entropy of the router at generated tokens less that at the text's own";
    columns.extend(with("entropy_change", "nats", meaning, |change| change.entropy));
    let meaning = "share of experts handed on to the next token, less that of the text";
    columns.extend(with("handed_on_change", "share", meaning, |change| change.handed_on));
    let gained = changes.iter().map(|change| change.gained.0 as i64).collect();
    columns.extend([
        Column::count("gained", "", "expert whose share of slots grows most", gained),
        Column::estimate("in_text", "share of slots", "of that expert in the text", real(|c| c.gained.1)),
        Column::estimate(
            "generated",
            "share of slots",
            "of that expert while generating",
            real(|c| c.gained.2),
        ),
        Column::estimate(
            "same_set",
            "share of tokens",
            "generated tokens whose set did not change when others followed",
            real(|change| change.same),
        ),
        Column::null(
            "same_set",
            "share of tokens",
            "a model that looks back alone",
            vec![1.0; changes.len()],
        ),
    ]);
    let method = "The first half of a sequence is the prompt; up to 24 tokens are drawn from the model's predictions at temperature 1 and \
                  held against the text's own at the same positions. The expert that gains most is the largest of all, so that its gain is a \
                  little too high.";
    Ok(Table::new("prefill_decode", "Routes while generating, beside those of the text", method, columns)?)
}

fn figure(changes: &[LayerChange]) -> Figure {
    let p: Vec<f64> = changes.iter().map(|change| change.distance.p_value).collect();
    let other = holm(&p).into_iter().filter(|p| *p <= 0.05).count();
    let beyond = |change: &&LayerChange| change.distance.excess();
    let most = changes.iter().max_by(|a, b| beyond(a).total_cmp(&beyond(b)));
    let example = most.filter(|_| other > 0).map_or_else(String::new, |change| {
        let (layer, seen, null) = (change.layer, change.distance.observed, change.distance.null_mean);
        format!(
            "; most in layer {layer}, where {:.1} % of slots move, {:.1} % by chance",
            100.0 * seen,
            100.0 * null
        )
    });
    Figure {
        id: "prefill_decode".into(),
        title: format!(
            "In {other} of {} experts carry other loads while the model generates{example}",
            counted(changes.len(), "layer", "layers")
        ),
        caption: "Share of slots that would have to move for the loads to be those of the text, at the same positions of the same documents; by Holm at 5 %.".into(),
        table: "prefill_decode".into(),
        kind: FigureKind::Bars { x: "layer".into(), y: "distance".into(), series: None },
    }
}

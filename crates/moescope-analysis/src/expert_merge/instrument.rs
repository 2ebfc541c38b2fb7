//! The instrument `expert-merge`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{ALPHAS, Barrier, METHOD, MergePoint, PairKind, Way, barriers, merging_curve};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::wording::{moves, three};

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 64;

/// The instrument `expert-merge`.
///
/// Three tables: barriers and costs of pairs (`merge_barrier`), the line between the most alike pairs (`merge_path`), and the loss with ever more
/// experts merged (`merging_curve`). See [`Barrier`] and [`MergePoint`] for units, nulls and limits.
pub struct ExpertMerging;

/// A reading of the most alike pair of the first block.
const fn of_block_0(says: &'static str, value: &'static str, rule: Rule) -> Reading {
    const CLOSEST: &[(&str, &str)] = &[("layer", "0"), ("pair", "most alike")];
    Reading { says, table: "merge_barrier", rows: CLOSEST, value, rule }
}
/// Twins in another order of neurons are far apart on the straight line.
const BARRIER: Reading = of_block_0(
    "a barrier stands between the most alike experts of block 0 as they stand",
    "plain",
    Rule::MoreThan(0.02),
);
/// On the line between matched twins nothing changes.
const BARRIER_ONCE_MATCHED: Reading = of_block_0(
    "a barrier stands between the most alike experts of block 0 once matched",
    "matched",
    Rule::MoreThan(0.02),
);
/// Twins averaged neuron by neuron as they stand are no expert any more.
const MERGED: Reading =
    of_block_0("the most alike experts of block 0 merge as they stand", "merged_plain", Rule::Below(0.25));
/// Matched twins averaged are the same expert again; independent ones are not.
const MERGED_ONCE_MATCHED: Reading = of_block_0(
    "the most alike experts of block 0 merge once their neurons are matched",
    "merged",
    Rule::Below(0.25),
);

/// Matching must make the difference with twins, and none with strangers.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::TwinExperts, BARRIER),
    Promise::is_silent(Property::TwinExperts, BARRIER_ONCE_MATCHED),
    Promise::finds(Property::TwinExperts, MERGED_ONCE_MATCHED),
    Promise::is_silent(Property::TwinExperts, MERGED),
    Promise::is_silent(Property::IndependentExperts, MERGED_ONCE_MATCHED),
    Promise::is_silent(Property::IndependentExperts, MERGED),
];

impl Instrument for ExpertMerging {
    fn about(&self) -> About {
        About {
            name: "expert-merge",
            group: Group::Causal,
            question: "Can experts be merged: is there a barrier of loss between two of them, and what do ever more merged ones cost?",
            null: "random pairs of the layer; groups of the same sizes with random members",
            does_not_show: "what training after merging would restore, nor a curved way around a barrier",
            source: "loss barrier, Entezari et al. 2022 (arXiv 2110.06296); matching by assignment, Ainsworth et al. 2023 (arXiv 2209.04836); merging by use, Li et al. 2024 (arXiv 2310.01334)",
            passes: "8 for each of 4 pairs of at most 4 layers, and at most 21 for the curve, of at most 64 sequences; matching of neurons besides",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child(METHOD), material.resampling(METHOD));
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let pairs = barriers(material.subject, &samples, seed, resampling)?;
        let curve = merging_curve(material.subject, &samples, seed, resampling)?;
        let figures = vec![
            Figure {
                id: "merge_path".into(),
                title: barrier_finding(&pairs),
                caption: "Loss above the straight line between its ends, with both experts replaced by a mean of the two; the most alike pair of \
                          each layer, neurons as they stand and matched."
                    .into(),
                table: "merge_path".into(),
                kind: lines("alpha", "excess", "line"),
            },
            Figure {
                id: "merging_curve".into(),
                title: curve_finding(&curve),
                caption: "Change of the loss with ever more experts merged, the most alike first, over documents that decided nothing; beside it \
                          groups of the same sizes with random members."
                    .into(),
                table: "merging_curve".into(),
                kind: lines("share", "loss", "way"),
            },
        ];
        Ok(Finding {
            tables: vec![barrier_table(&pairs)?, path_table(&pairs)?, curve_table(&curve)?],
            figures,
        })
    }
}

/// A picture of lines.
fn lines(x: &str, y: &str, series: &str) -> FigureKind {
    FigureKind::Lines { x: x.into(), y: y.into(), series: Some(series.into()), log2_x: false }
}

/// One row for each pair.
pub(super) fn barrier_table(pairs: &[Barrier]) -> Result<Table, AnalysisError> {
    let count = |of: fn(&Barrier) -> usize| pairs.iter().map(|pair| of(pair) as i64).collect::<Vec<i64>>();
    let real = |of: fn(&Barrier) -> f64| pairs.iter().map(of).collect::<Vec<f64>>();
    let unit = "nats per token of the pair";
    let kinds = pairs.iter().map(|pair| pair.kind.name().to_owned()).collect();
    let mut columns = vec![
        Column::integer_key("layer", "", "block", count(|pair| pair.layer)),
        Column::key("pair", "how the two experts were chosen", kinds),
        Column::integer_key("first", "", "expert", count(|pair| pair.first)),
        Column::integer_key("second", "", "expert", count(|pair| pair.second)),
        Column::estimate("cosine", "cosine", "of their weights, neurons matched", real(|pair| pair.cosine)),
        Column::estimate(
            "tokens",
            "tokens",
            "predicted tokens that choose one of them",
            real(|pair| pair.tokens),
        ),
    ];
    for (name, meaning, of, null) in [
        ("plain", "barrier, neurons as they stand", (|pair| pair.plain) as fn(&Barrier) -> Bootstrap, 0),
        ("matched", "barrier, neurons matched", |pair| pair.matched, 1),
        (
            "merged_plain",
            "loss with both half and half minus that of the model, neurons as they stand",
            |pair| pair.merged_plain,
            2,
        ),
        ("merged", "the same, neurons matched", |pair| pair.merged, 3),
    ] {
        columns.extend(bootstrap_columns(name, unit, meaning, &pairs.iter().map(of).collect::<Vec<_>>()));
        let null = pairs.iter().map(|pair| pair.null[null]).collect();
        columns.push(Column::null(name, unit, "mean over random pairs of the layer", null));
    }
    let method = "Both experts replaced by (1 − α) of the first and α of the second; loss above the straight line between the ends, the largest over \
                  α of 0.25, 0.5 and 0.75, for each predicted token that chooses one of the two. A barrier says how the ends are joined, `merged` what a merged pair costs. Does not show a \
                  curved way around.";
    Ok(Table::new("merge_barrier", "Barriers of loss between experts", method, columns)?)
}

/// The line between the experts of the most alike pairs, place by place.
fn path_table(pairs: &[Barrier]) -> Result<Table, AnalysisError> {
    let closest = pairs.iter().filter(|pair| pair.kind == PairKind::Closest);
    let (mut lines, mut alphas, mut excess) = (Vec::new(), Vec::new(), Vec::new());
    for pair in closest {
        for (way, path) in [(Way::Plain, &pair.plain_path), (Way::Matched, &pair.matched_path)] {
            for (alpha, at) in ALPHAS.iter().zip(path) {
                lines.push(format!("block {}, {}", pair.layer, way.name()));
                alphas.push(*alpha);
                excess.push(*at);
            }
        }
    }
    let unit = "nats per token of the pair";
    let mut columns = vec![
        Column::key("line", "layer, and how the neurons stand", lines),
        Column::estimate("alpha", "share", "share of the second expert", alphas),
    ];
    columns.extend(bootstrap_columns(
        "excess",
        unit,
        "loss above the straight line between the ends",
        &excess,
    ));
    columns.push(Column::null("excess", unit, "no barrier", vec![0.0; excess.len()]));
    let method = "As the table of barriers, for the most alike pair of each layer.";
    Ok(Table::new("merge_path", "Loss between the most alike experts", method, columns)?)
}

/// One row for each way and number of merged experts.
fn curve_table(curve: &[MergePoint]) -> Result<Table, AnalysisError> {
    let unit = "nats per token";
    let losses: Vec<Bootstrap> = curve.iter().map(|point| point.loss).collect();
    let mut columns = vec![
        Column::key(
            "way",
            "how the neurons stand",
            curve.iter().map(|point| point.way.name().into()).collect(),
        ),
        Column::estimate(
            "share",
            "share of experts",
            "experts that are gone, of those that may be merged",
            curve.iter().map(|point| point.share).collect(),
        ),
        Column::count(
            "merged",
            "experts",
            "that are gone",
            curve.iter().map(|point| point.merged as i64).collect(),
        ),
    ];
    columns.extend(bootstrap_columns("loss", unit, "loss minus that of the model as it is", &losses));
    columns.push(Column::null(
        "loss",
        unit,
        "groups of the same sizes with random members",
        curve.iter().map(|point| point.random).collect(),
    ));
    let method = "Groups by average linkage of matched cosines; every group becomes the mean of its members, weighted by use on half of the \
                  documents; loss of the other half. Does not show what training afterwards would restore.";
    Ok(Table::new("merging_curve", "What merged experts cost", method, columns)?)
}

/// How the barriers of the most alike pairs change by matching.
fn barrier_finding(pairs: &[Barrier]) -> String {
    let closest: Vec<&Barrier> = pairs.iter().filter(|pair| pair.kind == PairKind::Closest).collect();
    let mean = |of: fn(&Barrier) -> f64| {
        closest.iter().map(|pair| of(pair)).sum::<f64>() / closest.len().max(1) as f64
    };
    format!(
        "Between the two most alike experts of a layer the loss {} nats for each of their tokens, with neurons matched it {}; \
         merged they change it by {} nats, random ones by {}",
        moves(mean(|pair| pair.plain.estimate)),
        moves(mean(|pair| pair.matched.estimate)),
        three(mean(|pair| pair.merged.estimate)),
        three(mean(|pair| pair.null[3]))
    )
}

/// What the longest point of the curve says.
fn curve_finding(curve: &[MergePoint]) -> String {
    let last = curve.iter().rfind(|point| point.way == Way::Matched);
    last.map_or_else(String::new, |last| {
        format!(
            "With {:.0} % of the experts merged into their like the loss changes by {:+.3} nats per token, into random ones by {:+.3}",
            100.0 * last.share,
            last.loss.estimate,
            last.random
        )
    })
}

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{ByExpert, JacobianOptions, METHOD, Transport, jacobian_lens};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, LEVEL, Material, Promise, Property, Reading, Rule,
};
use crate::statistics::Bootstrap;
use crate::tabulate::{bootstrap_columns, layers_after};
use crate::wording::counted;

/// The instrument `jacobian-lens`.
pub struct JacobianLens;

/// Sequences that are moved, at most; whole batches.
const SEQUENCES: usize = 64;
const LAYERS: usize = 4;
const DIRECTIONS: usize = 12;
const ROUNDS: usize = 3;
/// Enough for the smallest p-value to survive Holm's correction over all blocks.
const SHUFFLES: usize = 99;

const CARRIES: Reading = Reading {
    says: "the averaged Jacobian carries changes after block 0 better than the identity",
    table: "jacobian_lens",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::MoreThan(0.01),
};
const BY_EXPERT: Reading = Reading {
    says: "averages by expert carry changes after block 0 better",
    table: "jacobian_lens_by_expert",
    rows: &[("layer", "0")],
    value: "gain",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] = &[
    Promise::is_silent(Property::EarlyAnswer, CARRIES),
    Promise::finds(Property::LateAnswer, BY_EXPERT),
    Promise::is_silent(Property::EarlyAnswer, BY_EXPERT),
];

impl Instrument for JacobianLens {
    fn about(&self) -> About {
        About {
            name: "jacobian-lens",
            group: Group::Lenses,
            question: "Does one linear map carry changes of the stream after a block to the end, and does a map for each expert carry them better?",
            null: "the change itself, as if no block came after; for maps by expert the experts shuffled between tokens",
            does_not_show: "the length of a change, changes outside the principal directions, nor what happens at other tokens",
            source: "averaged Jacobians, Hernandez et al. 2023 (arXiv 2308.09124), and linear short cuts, Din et al. 2023 (arXiv 2303.09435), by central differences",
            passes: "at most 79 for each of at most 4 blocks, of at most 64 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let options = JacobianOptions {
            layers: LAYERS,
            directions: DIRECTIONS,
            rounds: ROUNDS,
            shuffles: SHUFFLES,
            resampling: material.resampling(METHOD),
            seed: material.seed.child(METHOD),
        };
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let found = jacobian_lens(material.subject, &samples, options)?;
        let mut tables = vec![table(&found)?];
        let mut figures = vec![Figure {
            id: "jacobian_lens".into(),
            title: finding(&found),
            caption: "Cosine of the true change of the final vector and the one that the averaged Jacobian tells, after each block, on held-out \
                      documents, with 95 % intervals over these; beside it the cosine with the change itself."
                .into(),
            table: "jacobian_lens".into(),
            kind: FigureKind::Lines { x: "layer".into(), y: "cosine".into(), series: None, log2_x: false },
        }];
        let conditioned: Vec<(usize, ByExpert)> =
            found.iter().filter_map(|row| Some((row.layer, row.conditioned?))).collect();
        if !conditioned.is_empty() {
            tables.push(by_expert_table(&conditioned)?);
            figures.push(Figure {
                id: "jacobian_lens_by_expert".into(),
                title: by_expert_finding(&conditioned),
                caption: "Cosine with averages over the tokens of the same expert, minus that with experts shuffled between tokens, with 95 % \
                          intervals over held-out documents."
                    .into(),
                table: "jacobian_lens_by_expert".into(),
                kind: FigureKind::Bars { x: "layer".into(), y: "gain".into(), series: None },
            });
        }
        Ok(Finding { tables, figures })
    }
}

fn table(found: &[Transport]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&Transport) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let real = |pick: fn(&Transport) -> f64| found.iter().map(pick).collect::<Vec<f64>>();
    let mut columns = vec![layers_after(found.iter().map(|row| row.layer))];
    let meaning = "of the change that the averaged Jacobian tells and the true one, routes held";
    columns.extend(bootstrap_columns("cosine", "cosine", meaning, &of(|row| row.cosine)));
    columns.push(Column::null("cosine", "cosine", "the change itself", real(|row| row.identity)));
    columns.extend(bootstrap_columns(
        "gain",
        "cosine",
        "cosine minus that of the change itself",
        &of(|row| row.gain),
    ));
    columns.push(Column::null(
        "gain",
        "cosine",
        "blocks that leave changes as they are",
        vec![0.0; found.len()],
    ));
    let meaning = "the same with routes free";
    columns.extend(bootstrap_columns("cosine_free", "cosine", meaning, &of(|row| row.cosine_free)));
    columns.push(Column::estimate(
        "flips",
        "share of changes",
        "that flip a route of their token",
        real(|row| row.flips),
    ));
    let meaning = "of the stream's variance in the directions";
    columns.push(Column::estimate("variance", "share", meaning, real(|row| row.variance)));
    let directions = found.iter().map(|row| row.directions as i64).collect();
    columns.push(Column::count("directions", "directions", "along which the stream was moved", directions));
    let method = "Central differences at single tokens along the principal directions of the stream, routes held, averaged over tokens of half of the \
                  documents; on the other half the part of a vector in these directions is exchanged for another token's.";
    Ok(Table::new("jacobian_lens", "How well one linear map carries changes to the end", method, columns)?)
}

fn by_expert_table(found: &[(usize, ByExpert)]) -> Result<Table, AnalysisError> {
    let gains: Vec<Bootstrap> = found.iter().map(|(_, of)| of.gain).collect();
    let mut columns = vec![layers_after(found.iter().map(|(layer, _)| *layer))];
    let meaning = "cosine with averages by expert, minus that with shuffled experts";
    columns.extend(bootstrap_columns("gain", "cosine", meaning, &gains));
    let meaning = "experts that derivatives do not differ by";
    columns.push(Column::null("gain", "cosine", meaning, vec![0.0; found.len()]));
    let p = found.iter().map(|(_, of)| of.p).collect();
    columns.push(Column::p_value("gain", "so large a cosine with experts shuffled between tokens", p));
    let method = "Averages over the tokens that have the same expert with the largest weight in the next routed layer; those of rare experts \
                  lean on the average over all.";
    Ok(Table::new(
        "jacobian_lens_by_expert",
        "Whether a map for each expert carries changes better",
        method,
        columns,
    )?)
}

fn finding(found: &[Transport]) -> String {
    let better = found.iter().filter(|row| row.gain.low > 0.0).count();
    let mean = |pick: fn(&Transport) -> f64| found.iter().map(pick).sum::<f64>() / found.len().max(1) as f64;
    format!(
        "One linear map carries changes to the end with a cosine of {:.2} on average, the change itself has {:.2}; the map is better after \
         {better} of {}",
        mean(|row| row.cosine.estimate),
        mean(|row| row.identity),
        counted(found.len(), "block", "blocks")
    )
}

fn by_expert_finding(found: &[(usize, ByExpert)]) -> String {
    let better = crate::statistics::holm(&found.iter().map(|(_, of)| of.p).collect::<Vec<f64>>());
    let better = better.into_iter().filter(|p| *p <= LEVEL).count();
    let most = found.iter().map(|(_, of)| of.gain.estimate).fold(f64::NEG_INFINITY, f64::max);
    format!(
        "Maps by expert carry changes better than maps by shuffled experts after {better} of {}, by a cosine of {most:.3} at most",
        counted(found.len(), "block", "blocks")
    )
}
